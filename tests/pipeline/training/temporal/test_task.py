"""Localization heads trained for real: what they find, what they write, and that a kill changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import receipts
from pipeline.annotations import activitynet, thumos14
from pipeline.graph import Product
from pipeline.metrics.temporal import detection_ap
from pipeline.metrics.thumos import thumos_ap
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_head
from pipeline.training.head import describe, train_head
from schemas.errors import ReelmillError, UsageError
from schemas.receipt import Receipt

SPLITS = ("train", "train", "train", "val", "test")
TIOUS = np.array([0.3, 0.4, 0.5, 0.6, 0.7])


def train(dataset: Any, product: Product, report: Any = lambda news: None) -> Receipt:
    return train_head(product, dataset.whole, dataset.store, feature_units=dataset.units, report=report)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metrics_of(dataset: Any) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(dataset.store.read("heads/h/metrics.json"))
    return metrics


def evaluate(dataset: Any, product: Product, **options: Any) -> dict[str, Any]:
    return evaluate_head(product, dataset.whole, dataset.store, feature_units=dataset.units, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["actionformer", "talnet"])
def test_it_learns_and_each_number_can_be_had_again(
    dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, write_activitynet: Any, kind: str
) -> None:
    videos = make_segment_task(60, splits=SPLITS)
    path = write_activitynet(videos)
    dataset.write(videos)
    product = head_of(kind, annotations={"kind": "activitynet", "json": path}, channels=32, epochs=10, lr=3e-3)
    receipt = train(dataset, product)
    metrics = metrics_of(dataset)
    assert metrics["evaluated_on"] == "test"
    assert metrics["num_items"] == {"test": 12, "train": 36, "val": 12}
    assert metrics["splits"]["test"]["map"]["0.5"] >= 0.6
    assert metrics["headline"]["average mAP"] == metrics["splits"]["test"]["average_map"] >= 0.5
    assert metrics["headline"]["coverage"] == "12 of 12 videos"

    for split, subset in (("val", "validation"), ("test", "testing")):
        truth = activitynet.read_truth(path, subset=subset)
        predictions = activitynet.read_predictions(str(dataset.root / f"heads/h/predictions_{split}.json"), truth=truth)
        assert set(predictions.videos) == set(truth.videos)  # also those without a detection or a segment
        again = detection_ap(truth, predictions, tious=TIOUS)
        assert again.average_map == metrics["splits"][split]["average_map"]
        assert again.mean_ap.tolist() == list(metrics["splits"][split]["map"].values())
        found = evaluate(dataset, product, split=split)
        assert {key: found[key] for key in metrics["splits"][split]} == metrics["splits"][split]
    assert evaluate(dataset, product)["headline"] == metrics["headline"]
    assert evaluate(dataset, product, split="train")["average_map"] > 0.5

    files = {entry.path for entry in receipt.files}
    assert {"metrics.json", "curves.png", "curves.csv", "timeline.png", "predictions_val.json"} < files
    about = json.loads(dataset.store.read("heads/h/checkpoints/best.json"))
    assert (about["step_s"], about["window_s"], about["classes"]) == (1.6, pytest.approx(3.2), ["jump", "run"])


@pytest.mark.parametrize("kind", ["actionformer", "talnet"])
def test_the_same_training_gives_the_same_bytes_also_resumed_inside_an_epoch(
    dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.write(make_segment_task(40, splits=SPLITS))
    product = head_of(kind)
    train(dataset, product)
    undisturbed = tree(dataset.root / "heads/h")
    receipts.retract(dataset.store, product.path, 0)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    real, calls = loop.save_progress, 0

    def save(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        real(*arguments, **options)
        calls += 1
        if calls in (2, 9, 13):  # of six batches an epoch: in the first, the second and the third
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_progress", save)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(dataset, product)
        assert dataset.store.files("heads/h/_work")
    train(dataset, product)
    assert calls < 30  # it went on, it did not start over
    assert tree(dataset.root / "heads/h") == undisturbed


@pytest.mark.slow
def test_killed_inside_an_epoch_it_ends_with_the_same_bytes(
    dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, killed: Any
) -> None:
    """SIGKILL of a real process in its second epoch, and once more later."""
    dataset.write(make_segment_task(40, splits=SPLITS))
    product = head_of(levels=2)
    train(dataset, product)
    undisturbed = tree(dataset.root / "heads/h")
    dataset.store.delete_folder("heads")
    lines = killed.train(dataset, product, (9, 4), steps=True)
    receipts.sweep(dataset.store, product.path)
    assert tree(dataset.root / "heads/h") == undisturbed
    kinds = [line.partition(" ")[0] for line in lines]
    assert 3 <= kinds.count("epoch") <= 5
    assert kinds.count("step") < 3 * 6 + 2 * 3


def test_ambiguous_segments_count_by_the_thumos_protocol(
    dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, write_activitynet: Any
) -> None:
    """What touches an Ambiguous segment is no mistake."""
    videos = make_segment_task(40, splits=SPLITS)
    path = Path(write_activitynet(videos))
    database = json.loads(path.read_text().replace('"jump"', '"Diving"').replace('"run"', '"Shotput"'))
    for entry in database["database"].values():
        entry["annotations"].append({"segment": [0.0, 60.0], "label": "Ambiguous"})
    path.write_text(json.dumps(database))
    dataset.write(videos)
    annotations = {"kind": "thumos14", "path": str(path)}
    values = {}
    for protocol in ("activitynet", "thumos"):
        train(dataset, head_of(annotations=annotations, protocol=protocol))
        values[protocol] = metrics_of(dataset)["splits"]["test"]
    assert values["thumos"]["segments"] == values["activitynet"]["segments"]  # Ambiguous ones are no truth of a class
    assert [one["label"] for one in values["thumos"]["per_class"]] == ["Diving", "Shotput"]
    predictions = activitynet.read_predictions(str(dataset.root / "heads/h/predictions_test.json"))
    truth = thumos14.read_truth(str(path))
    kept = np.array([subset == "testing" for subset in truth.subset or ()])
    of_test = truth.select(kept[truth.video])
    again = thumos_ap(of_test, predictions, tious=TIOUS)
    assert again.average_map == values["thumos"]["average_map"]
    assert again.average_map > thumos_ap(of_test.certain(), predictions, tious=TIOUS).average_map


def test_unannotated_videos_get_predictions(
    dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, write_activitynet: Any
) -> None:
    videos = make_segment_task(48, splits=(*SPLITS, None))
    path = write_activitynet([video for video in videos if video.split])
    dataset.write(videos)
    product = head_of(annotations={"kind": "activitynet", "json": path}, epochs=2)
    receipt = train(dataset, product)
    strangers = [video.video_id for video in videos if video.split is None]
    assert receipt.rows["filtered"] == len(strangers) == 8
    found = activitynet.read_predictions(str(dataset.root / "heads/h/predictions_none.json"))
    assert list(found.videos) == strangers
    assert len(found) > 0
    with pytest.raises(UsageError, match="heads/h: no video is in split none; this dataset has train, val, test"):
        evaluate(dataset, product, split="none")


def test_missing_features_lower_the_coverage(dataset: Any, make_segment_task: Callable[..., Any], head_of: Any) -> None:
    videos = make_segment_task(40, splits=SPLITS)
    for video in [video for video in videos if video.split == "test"][:2]:
        video.status = "failed"
    dataset.write(videos)
    with pytest.raises(ReelmillError, match="heads/h: 2 of 40 annotated videos have no features: video-"):
        train(dataset, head_of())
    train(dataset, head_of(missing=2, epochs=2))
    metrics = metrics_of(dataset)
    assert metrics["headline"]["coverage"] == "6 of 8 videos"
    assert len(metrics["missing"]) == 2
    assert metrics["missing"][0].endswith(": features/c3d: truncated")


def test_the_card_says_what_a_number_means(head_of: Any, dataset: Any, make_segment_task: Any) -> None:
    dataset.write(make_segment_task(20, splits=SPLITS))
    said = describe(head_of(protocol="thumos"), dataset.store)
    assert said["metric"] == "mAP by the rule of thumos, tIoU 0.3, 0.4, 0.5, 0.6, 0.7"
    assert said["steps"] == "step k of a video is the middle of its k-th window of features"
