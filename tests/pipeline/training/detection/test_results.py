"""What is made of a head's detections: rows of boxes, tubes, numbers. No network: the detections are made up."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.heads.linking import Linking
from pipeline.heads.roi import KeyDetections
from pipeline.training.detection.dataset import DetectionData, load_detection
from pipeline.training.detection.results import Found, box_table, headline, key_precision, linked, split_results
from pipeline.training.tasks import settings_of

HERE = (0.25, 0.5, 0.5, 1.0)
THERE = (0.75, 0.0, 1.0, 0.5)
RULES = Linking(trim=False)


def load(world: Any, annotations: dict[str, Any], **settings: Any) -> DetectionData:
    product = world.head(annotations, **settings)
    return load_detection(world.source(product), settings_of(product.settings))  # type: ignore[arg-type]


def three(parts: Any, *, seconds: int = 4, **changes: Any) -> list[Any]:
    actors = (parts.Actor(0, HERE), parts.Actor(1, THERE))
    return [
        parts.Video(name, actors, split, seconds, **changes)
        for name, split in zip("abc", ("train", "val", "test"), strict=True)
    ]


def perfect(data: DetectionData, split: str, *, score: float = 0.9) -> Found:
    """The truth of each keyframe as a head would find it."""
    keys = data.keys_of(split)
    found = [
        KeyDetections(target.box, target.actions * score, torch.full((len(target),), score))
        for target in (data.targets[key] for key in keys)
    ]
    return Found(data, keys, found)


def test_a_row_for_each_action_of_a_box(world: Any, parts: Any) -> None:
    world.view_px = (0, 16, 48, 48)  # the right three quarters
    world.write(three(parts))
    data = load(world, world.ava())
    keys = data.keys_of("test")[:2]
    box = torch.tensor([[0.0, 0.0, 1.0, 0.5]])
    nothing = KeyDetections(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0))
    found = Found(data, keys, [nothing, KeyDetections(box, torch.tensor([[0.25, 0.005]]), torch.ones(1))])
    table = box_table(data, found, ("far", "wave", "sit"), min_score=0.01)
    assert table.videos == ("c",)
    assert table.second.tolist() == [1.0]
    assert table.box.tolist() == [[0.25, 0, 1, 0.5]]
    assert table.label.tolist() == [2]
    assert table.score is not None
    assert table.score.tolist() == [0.25]


def test_the_truth_scores_one_and_a_mistake_at_an_empty_keyframe_counts(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[2].actors = (parts.Actor(0, HERE, start_s=1), parts.Actor(1, THERE, start_s=1))
    world.write(videos)
    data = load(world, world.ava())
    assert key_precision(data, "test", perfect(data, "test"), iou=0.5, min_score=0.01).mean_ap == 1.0
    found = perfect(data, "test")
    assert [len(boxes) for boxes in found.boxes] == [0, 2, 2, 2]
    found.boxes[0], found.scores[0] = np.array([HERE]), np.array([[0.95, 0.0]])  # nobody is there
    precision = key_precision(data, "test", found, iou=0.5, min_score=0.01)
    assert precision.average_precision.tolist() == pytest.approx([0.75, 1.0])


def test_tubes_are_in_the_annotations_frames(world: Any, parts: Any) -> None:
    """Keyframes at 0.5 s … 3.5 s are frames 8, 24, 40 and 56 of 64; each stands for what is nearest to it."""
    world.write(three(parts, first_s=10.0))
    data = load(world, world.tubes())
    tubes = linked(data, perfect(data, "test"), RULES)
    assert tubes.videos == ("c.mp4",)
    assert [(tube.start_frame, tube.end_frame, tube.label, tube.score) for tube in tubes.tubes] == [
        (0, 64, 0, pytest.approx(0.9)),
        (0, 64, 1, pytest.approx(0.9)),
    ]
    assert np.allclose(tubes.tubes[0].boxes, [16, 24, 32, 48])
    results = split_results(data, "test", perfect(data, "test"), tubes, iou=0.5, min_score=0.01)
    assert headline(results, iou=0.5) == {
        "frame-mAP@0.5": 1.0,
        "frame-mAP@0.5, all frames": 1.0,
        "video-mAP@0.2": 1.0,
        "video-mAP@0.5": 1.0,
        "video-mAP@0.75": 1.0,
        "video-mAP@0.5:0.95": 1.0,
        "coverage": "1 of 1 videos",
    }


def test_without_a_known_rate_frames_are_those_of_the_clips(world: Any, parts: Any) -> None:
    world.clips = {"resize": (60, 80), "crop": (48, 64)}
    world.write([*three(parts), parts.Video("x", seconds=3, first_s=10.0)])
    data = load(world, world.ava(world.videos[:3]))
    keys = data.keys_of("none")
    one = KeyDetections(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.9, 0.0]]), torch.ones(1))
    tubes = linked(data, Found(data, keys, [one] * 3), RULES)
    (shape,) = tubes.shapes
    assert (shape.fps, shape.width, shape.height, shape.num_frames) == (8.0, 80, 60, 13 * 8)
    (tube,) = tubes.tubes
    assert (tube.start_frame, tube.end_frame) == (80, 104)  # seconds 10 to 13
    assert np.allclose(tube.boxes, [8, 6, 72, 54])  # the view in the uncropped frame


def test_a_tube_does_not_leap_over_a_hole_in_the_keyframes(world: Any, parts: Any) -> None:
    """Maps of seconds 0 to 4 and 20 to 24: one actor all the time is two tubes, for nobody has looked between."""
    starts = (*range(4), *range(20, 24))
    world.write(three(parts, seconds=24, starts_s=tuple(float(second) for second in starts)))
    data = load(world, world.ava(), missing="90%")
    tubes = linked(data, perfect(data, "test"), RULES)
    spans = sorted((tube.label, tube.start_frame, tube.end_frame) for tube in tubes.tubes)
    assert spans == [(label, *span) for label in (0, 1) for span in ((0, 29), (156, 192))]


def test_coverage_stands_beside_the_number(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[2].starts_s = (0.0, 1.0, 2.0)
    world.write(videos)
    data = load(world, world.ava(), missing=1)
    found = perfect(data, "test")
    results = split_results(data, "test", found, linked(data, found, RULES), iou=0.5, min_score=0.01)
    assert headline(results, iou=0.5) == {"frame-mAP@0.5": 1.0, "coverage": "3 of 4 keyframes"}
    assert results["boxes"] == 6
