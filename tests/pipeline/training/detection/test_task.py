"""Detection from stored maps to numbers: training, what comes out, killing and going on."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.annotations import ava, tube_json
from pipeline.metrics import tubes as tube_metrics
from pipeline.metrics.ava import frame_map
from pipeline.training import loop
from pipeline.training.evaluate import evaluate_head
from pipeline.training.head import train_head
from pipeline.training.loop import Place, StepReport, fit
from pipeline.training.tasks import open_task, settings_of
from pipeline.training.worker import Worker
from schemas.errors import ReelmillError, UsageError


def train(world: Any, annotations: dict[str, Any], **settings: Any) -> dict[str, Any]:
    product = world.head(annotations, **{"epochs": 25, "hidden": 32, **settings})
    train_head(product, world.whole, world.store, feature_units=world.units)
    numbers: dict[str, Any] = json.loads(world.store.read("heads/who/metrics.json"))
    return numbers


@pytest.fixture
def populated(world: Any, make_videos: Any, parts: Any) -> Any:
    """Thirty-two annotated videos and one that is not."""
    actor = parts.Actor(1, (0.125, 0.0, 0.5, 0.5))
    world.annotated = make_videos(32)
    world.write([*world.annotated, parts.Video("x", (actor,))])
    return world


def test_tubes_are_found_and_scored(populated: Any) -> None:
    """Learned boxes: the numbers are those of the metric on the files that are written."""
    section = populated.tubes(populated.annotated)
    numbers = train(populated, section)
    headline = numbers["headline"]
    assert numbers["evaluated_on"] == "test"
    assert headline["frame-mAP@0.5"] > 0.7
    assert headline["frame-mAP@0.5, all frames"] > 0.7
    assert headline["coverage"] == "8 of 8 videos"
    assert numbers["num_items"] == {"none": 4, "test": 32, "train": 64, "val": 32}
    truth = tube_json.read_truth(section["path"])
    (populated.root / "found.json").write_bytes(populated.store.read("heads/who/tubes_test.json"))
    found = tube_json.read_predictions(str(populated.root / "found.json"))
    test = {f"{video.video_id}.mp4" for video in populated.annotated if video.split == "test"}
    assert set(found.videos) == test
    truth = _only(truth, test)
    assert tube_metrics.frame_map(truth, found).mean_ap == headline["frame-mAP@0.5, all frames"]
    for iou in (0.2, 0.5, 0.75):
        assert tube_metrics.video_map(truth, found, iou=iou).mean_ap == headline[f"video-mAP@{iou:g}"]
    ious = [round(0.5 + 0.05 * step, 2) for step in range(10)]
    mean = np.mean([tube_metrics.video_map(truth, found, iou=iou).mean_ap for iou in ious])
    assert headline["video-mAP@0.5:0.95"] == mean


def _only(tubes: Any, names: set[str]) -> Any:
    from dataclasses import replace

    return replace(tubes, tubes=tuple(tube for tube in tubes.tubes if tubes.videos[tube.video] in names))


def test_people_of_avas_csv_are_found_and_scored(populated: Any) -> None:
    """Also those of a video that is not annotated."""
    section = populated.ava(populated.annotated, start_s=900)
    numbers = train(populated, section)
    assert numbers["headline"]["frame-mAP@0.5"] > 0.7
    assert numbers["headline"]["coverage"] == "32 of 32 keyframes"
    actions = ava.read_actions(section["labels"])
    (populated.root / "found.csv").write_bytes(populated.store.read("heads/who/predictions_test.csv"))
    truth = ava.read_labels([section["csv"]], actions=actions)
    test = np.array([name in {v.video_id for v in populated.annotated if v.split == "test"} for name in truth.videos])
    truth = truth.select(test[truth.video])
    found = ava.read_predictions(str(populated.root / "found.csv"), actions=actions, truth=truth)
    assert set(found.second.tolist()) == {900, 901, 902, 903}
    assert frame_map(truth, found, max_per_frame=0).mean_ap == numbers["headline"]["frame-mAP@0.5"]

    _check_video_without_annotation(populated)


def _check_video_without_annotation(populated: Any) -> None:
    """The head says who does what, when and where in it."""
    (populated.root / "found.json").write_bytes(populated.store.read("heads/who/tubes_none.json"))
    found = tube_json.read_predictions(str(populated.root / "found.json"))
    assert found.videos == ("x",)
    assert (found.shapes[0].fps, found.shapes[0].width, found.shapes[0].height) == (8.0, 64, 48)  # the clips'
    best = found.tubes[0]
    assert found.labels[best.label] == "wave"
    assert (best.start_frame, best.end_frame) == (0, 32)
    assert np.allclose(best.boxes.mean(axis=0), [8, 0, 32, 24], atol=5)
    assert populated.store.read("heads/who/predictions_none.csv").startswith(b"x,900.5,")


@pytest.mark.parametrize("proposals", ["truth", "csv"])
def test_given_boxes_stay_as_they_are(populated: Any, proposals: str) -> None:
    section = populated.ava(populated.annotated)
    if proposals == "csv":
        lines = [line.split(",") for line in (populated.root / "train.csv").read_text().splitlines()]
        text = "\n".join(",".join([*cells[:6], "0.95"]) for cells in lines)
        (populated.root / "boxes.csv").write_text(text)
        proposals = str(populated.root / "boxes.csv")
    numbers = train(populated, section, proposals=proposals, epochs=12)
    assert numbers["headline"]["frame-mAP@0.5"] > 0.95
    assert numbers["num_items"].get("none") == (4 if proposals == "truth" else None)  # no box is known in it
    assert not populated.store.read_or_none("heads/who/predictions_none.csv")
    (populated.root / "found.csv").write_bytes(populated.store.read("heads/who/predictions_test.csv"))
    actions = ava.read_actions(section["labels"])
    found = ava.read_predictions(str(populated.root / "found.csv"), actions=actions)
    truth = ava.read_labels([section["csv"]], actions=actions)
    known = {
        (truth.videos[v], s, tuple(b.round(6))) for v, s, b in zip(truth.video, truth.second, truth.box, strict=True)
    }
    assert len(found) > 0
    for video, second, box in zip(found.video, found.second, found.box, strict=True):
        assert (found.videos[video], second, tuple(box.round(6))) in known


def test_in_a_crop_boxes_come_out_in_the_frame(world: Any, make_videos: Any, parts: Any) -> None:
    """The view is the right three quarters; actors stand in it, and are found where they stand in the frame."""
    world.view_px = (0, 16, 48, 48)
    box = (0.5, 0.5, 0.75, 1.0)
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    world.write([parts.Video(f"v{i}", (parts.Actor(i % 2, box),), split) for i, split in enumerate(splits)])
    numbers = train(world, world.ava(), epochs=15)
    assert numbers["headline"]["frame-mAP@0.5"] > 0.9
    (world.root / "found.csv").write_bytes(world.store.read("heads/who/predictions_test.csv"))
    found = ava.read_predictions(
        str(world.root / "found.csv"), actions=ava.read_actions(str(world.root / "list.pbtxt"))
    )
    assert found.score is not None
    assert np.allclose(found.box[found.score.argmax()], box, atol=0.1)


def test_evaluation_gives_the_numbers_again(populated: Any) -> None:
    section = populated.tubes(populated.annotated)
    numbers = train(populated, section, epochs=3)
    product = populated.head(section, epochs=3, hidden=32)

    def evaluate(split: str | None = None) -> dict[str, Any]:
        return evaluate_head(product, populated.whole, populated.store, feature_units=populated.units, split=split)

    again = evaluate()
    assert again["headline"] == numbers["headline"]
    assert {key: again[key] for key in numbers["splits"]["test"]} == numbers["splits"]["test"]
    assert evaluate("val")["frame_map"] == numbers["splits"]["val"]["frame_map"]
    with pytest.raises(UsageError, match="no keyframe is in split none; this dataset has train, val, test"):
        evaluate("none")


def test_maps_of_another_stride_are_refused_in_evaluation(populated: Any) -> None:
    """A head that stands on maps that changed under it is stale, and says so."""
    section = populated.tubes(populated.annotated)
    train(populated, section, epochs=1)
    populated.clips = {"fps": 4}
    populated.write(populated.videos)
    product = populated.head(section, epochs=1, hidden=32)
    with pytest.raises(ReelmillError, match="heads/who is stale: its features or its settings have changed"):
        evaluate_head(product, populated.whole, populated.store, feature_units=populated.units)


# ---------------------------------------------------------------- going on after a kill


class KilledError(Exception):
    pass


@pytest.fixture
def place(world: Any, make_videos: Any) -> tuple[Any, Any, Callable[..., Place]]:
    world.write(make_videos(8))
    product = world.head(world.ava(), epochs=3, batch_size=5)
    settings = settings_of(product.settings)
    task = open_task(world.source(product), settings)

    def make(report: Any = lambda news: None, fingerprint: str = "f") -> Place:
        return Place(world.store, product.path, "roi", "heads/who/_work/roi.safetensors", fingerprint, Worker(), report)

    return settings, task, make


@pytest.mark.parametrize("after", [1, 3, 6])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    place: Any, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(loop, "SHOW_EVERY_S", 0)
    settings, task, make = place
    undisturbed = fit(task, settings, make(fingerprint="undisturbed"))
    steps = 0

    def kill(news: Any) -> None:
        nonlocal steps
        steps += isinstance(news, StepReport)
        if steps == after:
            raise KilledError

    with pytest.raises(KilledError):
        fit(task, settings, make(kill))
    resumed = fit(task, settings, make())
    assert resumed.history == undisturbed.history
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    populated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0)
    product = populated.head(populated.ava(populated.annotated), epochs=3)

    def run(report: Any = lambda news: None) -> Any:
        return train_head(product, populated.whole, populated.store, feature_units=populated.units, report=report)

    undisturbed = run()
    populated.store.delete_folder(product.path)

    def kill(news: Any) -> None:
        if not isinstance(news, StepReport) and news.line.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        run(kill)
    assert run().files == undisturbed.files
