"""Heads of every kind and every kind of labels, trained for real: they learn, resume, and say what they are."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import receipts
from pipeline.graph import Product
from pipeline.metrics.multilabel import mean_average_precision
from pipeline.stages import card_of
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_head
from pipeline.training.head import train_head
from pipeline.training.loop import EpochReport
from schemas.errors import ReelmillError
from schemas.receipt import Receipt


def train(dataset: Any, product: Product, report: Any = lambda news: None) -> Receipt:
    return train_head(product, dataset.whole, dataset.store, feature_units=dataset.units, report=report)


def metrics_of(dataset: Any, product: Product) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(dataset.store.read(f"{product.path}/metrics.json"))
    return metrics


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_table(dataset: Any, path: str) -> Any:
    return pq.read_table(io.BytesIO(dataset.store.read(path)))


# ---------------------------------------------------------------- several labels a clip


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_dense_heads_remember_what_a_probe_can_not_see(
    dataset: Any, make_activity_task: Callable[..., Any], kind: str
) -> None:
    """`run` shows only where it begins."""
    dataset.write(make_activity_task(150, splits=("train", "train", "train", "val", "test")))
    product = dataset.head(kind=kind, labels="dense", output="many-to-many", epochs=40, lr=2e-2, dropout=0.2)
    train(dataset, product)
    metrics = metrics_of(dataset, product)
    jump, run = (row["ap"] for row in metrics["models"][kind]["splits"]["test"]["per_class"])
    assert min(jump, run) >= 0.95
    assert metrics["map"] == pytest.approx((jump + run) / 2)
    assert metrics["headline"]["mAP"] == metrics["map"] > 2 * metrics["chance"]
    assert metrics["headline"]["coverage"] == "30 of 30 videos"
    assert metrics["protocol"] == "multithumos"
    if kind == "lstm":
        probe = metrics["models"]["linear"]["splits"]["test"]["per_class"]
        assert probe[0]["ap"] >= 0.95
        assert probe[1]["ap"] <= 0.8
        assert metrics["headline"]["mAP of the linear probe"] == metrics["models"]["linear"]["splits"]["test"]["map"]


def test_dense_predictions_stand_alone(dataset: Any, make_activity_task: Callable[..., Any]) -> None:
    """The number of metrics.json comes out of the file, and the file's truth is the segments'."""
    videos = make_activity_task(30, splits=("train", "val", "test"))
    dataset.write(videos)
    product = dataset.head(kind="linear", labels="dense")
    train(dataset, product)
    table = read_table(dataset, "heads/actions/predictions.parquet")
    classes = json.loads(table.schema.metadata[b"reelmill.classes"])
    assert classes == [{"label_id": 0, "label": "jump"}, {"label_id": 1, "label": "run"}]
    assert table["video_id"].to_pylist() == [video.video_id for video in videos for _ in video.clips]
    centers = [index * 3.2 + 1.6 for video in videos for index in range(len(video.clips))]
    np.testing.assert_allclose(table["center_s"].to_numpy(), centers)
    expected = [
        [k for s, e, k in sorted(video.segments, key=lambda segment: segment[2]) if s <= index * 3.2 + 1.6 < e]
        for video in videos
        for index in range(len(video.clips))
    ]
    assert table["label_ids"].to_pylist() == expected
    test = np.array(table["split"].to_pylist()) == "test"
    scores = np.array(table["probabilities"].to_pylist(), dtype=np.float32)[test]
    truth = np.array([[k in row for k in (0, 1)] for row in expected])[test]
    again = mean_average_precision(scores, truth, protocol="multithumos").mean_ap
    assert again == metrics_of(dataset, product)["map"]


def test_annotations_come_from_a_file_as_well(
    dataset: Any, make_activity_task: Callable[..., Any], tmp_path: Path
) -> None:
    """The same segments give the same training, wherever segments and splits are said."""
    videos = make_activity_task(30, splits=("train", "val", "test"))
    names = ("jump", "run")
    database = {
        video.video_id: {
            "subset": {"train": "training", "val": "validation", "test": "testing"}[video.split],
            "annotations": [{"segment": [s, e], "label": names[k]} for s, e, k in video.segments],
        }
        for video in videos
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    dataset.write(videos)
    train(dataset, dataset.head(name="of_manifest", kind="linear", labels="dense"))
    for video in videos:
        video.split, video.segments, video.label_ids = None, (), ()
    dataset.write(videos)
    annotations = {"kind": "activitynet", "json": str(tmp_path / "truth.json")}
    train(dataset, dataset.head(name="of_file", kind="linear", labels="dense", annotations=annotations))
    one, other = tree(dataset.root / "heads/of_manifest"), tree(dataset.root / "heads/of_file")
    for name in ("predictions.parquet", "curves.csv", "checkpoints/best.safetensors"):
        assert one[name] == other[name]


# ---------------------------------------------------------------- several labels a video


@pytest.mark.parametrize("kind", ["lstm", "gru", "linear", "mean_pool", "late_fusion"])
def test_several_labels_a_video(dataset: Any, make_activity_task: Callable[..., Any], video: Any, kind: str) -> None:
    videos = make_activity_task(90, splits=("train", "val", "test"))
    for one in videos[::2]:  # a class that some have beside the others
        one.label_ids = (*one.label_ids, 2)
        one.clips[:, :4] += 1
    dataset.write(videos)
    if kind == "late_fusion":
        flow = [video(one.video_id, one.label_ids, one.clips[:, ::-1].copy()) for one in videos]
        dataset.write(flow, name="flow", manifest=False)
    product = dataset.head(kind=kind, labels="multi", epochs=30, lr=2e-2)
    train(dataset, product)
    metrics = metrics_of(dataset, product)
    assert metrics["map"] >= 0.9
    assert metrics["protocol"] == "mmaction2"
    result = metrics["models"][kind]["splits"]["test"]
    assert [row["videos"] for row in result["per_class"]] == [30, 20, 15]
    assert metrics["chance"] == pytest.approx(65 / 90)
    assert metrics["hit1"] >= 0.9
    table = read_table(dataset, "heads/actions/predictions.parquet")
    assert table["video_id"].to_pylist() == [one.video_id for one in videos]
    assert table["label_ids"].to_pylist() == [list(one.label_ids) for one in videos]
    first = dataset.store.read("heads/actions/predictions.csv").decode().splitlines()[1]
    assert first.startswith(f"video-0000,train,{len(videos[0].clips)},jump | swim,")
    assert evaluate_head(product, dataset.whole, dataset.store, feature_units=dataset.units)["models"][kind] == result


def test_single_heads_leave_what_has_several_labels(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(40)
    videos[3].label_ids = (0, 1)
    dataset.write(videos)
    reasons = []
    for labels in ("single", "multi"):
        product = dataset.head(name=labels, kind="linear", labels=labels, epochs=1)
        train(dataset, product)
        reasons.append(receipts.read_ledger(dataset.store, product.path, 0)[3].reason)
    assert reasons == ["multi_label", ""]


# ---------------------------------------------------------------- two streams


def two_streams(video: Any, tells: Callable[[int], tuple[int, int]]) -> tuple[list[Any], list[Any]]:
    """Videos of four classes in two streams; of class k the first shows tells(k)[0], and the second tells(k)[1]."""
    random = np.random.default_rng(0)
    streams: tuple[list[Any], list[Any]] = ([], [])
    for index in range(160):
        label_id, num_clips = index % 4, int(random.integers(2, 6))
        for stream, shown in zip(streams, tells(label_id), strict=True):
            clips = random.normal(size=(num_clips, 6), scale=0.5)
            clips[:, shown] += 2
            stream.append(video(f"video-{index:04d}", (label_id,), clips.astype(np.float32)))
    return streams


def bits(label_id: int) -> tuple[int, int]:
    """One stream tells 0 and 1 from 2 and 3, the other even from odd."""
    return label_id // 2, label_id % 2


def halves(label_id: int) -> tuple[int, int]:
    """One stream tells 0 from 1, the other 2 from 3."""
    return min(label_id, 2), max(label_id, 1)


@pytest.mark.parametrize(
    ("tells", "fusion", "branch"),
    [
        (bits, "average", "linear"),
        (bits, "learned", "linear"),
        (halves, "learned", "linear"),
        (halves, "learned", "gru"),
    ],
)
def test_two_streams_know_more_than_one(
    dataset: Any, video: Any, tells: Callable[[int], tuple[int, int]], fusion: str, branch: str
) -> None:
    rgb, flow = two_streams(video, tells)
    dataset.write(rgb, name="rgb")
    dataset.write(flow, name="flow", manifest=False)
    product = dataset.head(kind="late_fusion", fusion=fusion, branch=branch, epochs=25, lr=2e-2)
    train(dataset, product)
    metrics = metrics_of(dataset, product)
    assert metrics["top1"] >= 0.9
    assert metrics["mean_class_accuracy"] >= 0.9
    about = json.loads(dataset.store.read("heads/actions/checkpoints/best.json"))
    assert about["dims"] == [6, 6]
    del dataset.features["flow"]
    alone = dataset.head(name="alone", kind="linear", epochs=25, lr=2e-2)
    train(dataset, alone)
    assert metrics_of(dataset, alone)["top1"] <= 0.85


# ---------------------------------------------------------------- resuming, cards, errors

KINDS = [
    {"kind": "gru", "labels": "dense", "output": "many-to-many"},
    {"kind": "mean_pool", "labels": "multi"},
    {"kind": "late_fusion", "fusion": "learned", "branch": "lstm"},
]


@pytest.mark.parametrize("settings", KINDS, ids=["dense", "multi", "late_fusion"])
def test_training_that_broke_off_ends_with_the_same_bytes(
    dataset: Any,
    make_activity_task: Callable[..., Any],
    video: Any,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    videos = make_activity_task(36)
    if "labels" not in settings:
        for one in videos:
            one.label_ids = one.label_ids[-1:]
    dataset.write(videos)
    if settings["kind"] == "late_fusion":
        flow = [video(one.video_id, one.label_ids, one.clips[:, :3]) for one in videos]
        dataset.write(flow, name="flow", manifest=False)
    product = dataset.head(**settings)
    train(dataset, product)
    undisturbed = tree(dataset.root / "heads/actions")
    dataset.store.delete_folder("heads")
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    seen: list[int] = []

    def break_off(news: Any) -> None:
        assert isinstance(news, EpochReport)
        seen.append(news.line.epoch)
        if seen == [1, 2, 3]:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        train(dataset, product, break_off)
    train(dataset, product, break_off)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert tree(dataset.root / "heads/actions") == undisturbed


def test_cards_say_which_metric_it_is(dataset: Any, make_activity_task: Callable[..., Any]) -> None:
    dataset.write(make_activity_task(6))
    details = [card_of(dataset.head(kind="linear", labels=kind), dataset.store).details for kind in ("multi", "dense")]
    assert details[0]["metric"] == "mean average precision over videos by the rules of mmaction2"
    assert details[1]["metric"] == "mean average precision over clips by the rules of multithumos"
    assert details[1]["task"] == "any number of classes at the centre of a clip"


def test_missing_features_fail_the_head_unless_allowed(dataset: Any, make_activity_task: Callable[..., Any]) -> None:
    videos = make_activity_task(45, splits=("train", "val", "test"))
    videos[6].status = videos[8].status = "failed"  # both of test
    dataset.write(videos)
    strict = dataset.head(kind="linear", labels="dense")
    with pytest.raises(ReelmillError) as error:
        train(dataset, strict)
    assert str(error.value) == (
        "heads/actions: 2 of 45 annotated videos have no features: video-0006 (features/c3d: truncated), video-0008 "
        "(features/c3d: truncated); make their features, or allow for that many with `missing: 2`"
    )
    assert not (dataset.root / "heads").exists()
    train(dataset, dataset.head(kind="linear", labels="dense", missing="5%"))
    metrics = metrics_of(dataset, strict)
    assert metrics["headline"]["coverage"] == "13 of 15 videos"
    assert metrics["num_annotated"] == {"train": 15, "val": 15, "test": 15}
    assert metrics["missing"] == [f"video-000{n}: features/c3d: truncated" for n in (6, 8)]
