"""Metrics of tubes against the numbers of ACT- and MOC-detector (tests/golden/metrics/make_tubes.py)."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.metrics.temporal import Ties
from pipeline.metrics.tubes import average_precision, frame_map, video_map
from schemas.annotation import Tube, TubeSet, VideoShape

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden/metrics/tubes.json").read_text())
LEFT, RIGHT = [[0.0, 0.0, 9.0, 9.0]], [[20.0, 0.0, 29.0, 9.0]]


def evaluate(case: dict[str, Any], *, ties: Ties = "introsort") -> dict[str, list[float]]:
    """The numbers of a case as make_tubes.py writes them."""
    truth, predictions = (tubes(case[side], case["videos"], case["labels"]) for side in ("truth", "predictions"))
    frame = frame_map(truth, predictions, iou=case["iou"], ties=ties)
    video = video_map(truth, predictions, iou=case["iou"], ties=ties)
    return {"frame": frame.average_precision.tolist(), "video": video.average_precision.tolist()}


def tubes(rows: list[Any], videos: tuple[str, ...] = ("a", "b"), labels: tuple[str, ...] = ("run", "jump")) -> TubeSet:
    """(video, label, start, boxes[, score[, box scores]]) each."""
    return TubeSet(tuple(tube(*row) for row in rows), tuple(videos), tuple(labels), (VideoShape(99),) * len(videos))


def tube(video: int, label: int, start: int, boxes: Any, score: Any = None, box_scores: Any = None) -> Tube:
    scores = None if box_scores is None else np.array(box_scores, dtype=np.float64)
    return Tube(video, label, start, np.array(boxes, dtype=np.float64), score, scores)


# ---------------------------------------------------------------- against the official code


@pytest.mark.parametrize("name", GOLDEN)
def test_as_the_official_code(name: str) -> None:
    got = evaluate(GOLDEN[name])
    assert got["frame"] == pytest.approx(GOLDEN[name]["frame"], abs=1e-7)
    assert got["video"] == pytest.approx(GOLDEN[name]["video"], abs=1e-7)


def test_golden_cases_say_something() -> None:
    for metric in ("frame", "video"):
        numbers = {round(value, 6) for case in GOLDEN.values() for value in case[metric] if 0 < value < 1}
        assert len(numbers) > 8, metric


# ---------------------------------------------------------------- rules of our own


def test_frames_are_accounted_for() -> None:
    truth = tubes([(0, 0, 3, LEFT * 4), (1, 1, 0, LEFT * 2)])
    guesses = tubes(
        [(0, 0, 5, LEFT * 4, 0.9), (0, 2, 0, LEFT * 3, 0.9), (2, 0, 0, LEFT * 5, 0.9)],
        videos=("a", "b", "c"),
        labels=("run", "jump", "swim"),
    )
    result = frame_map(truth, guesses)
    counts = result.counts
    assert (counts.with_truth, counts.predicted) == (6, 2)
    assert (counts.used, counts.elsewhere, counts.other_class, counts.other_video) == (4, 2, 3, 5)
    assert result.num_truth.tolist() == [4, 2]
    assert result.num_predictions.tolist() == [4, 0]


def test_tubes_are_accounted_for() -> None:
    truth = tubes([(0, 0, 3, LEFT * 4), (1, 1, 0, LEFT * 2)], videos=("a", "b", "c"))
    rows = [(0, 0, 3, LEFT * 4, 0.9), (0, 0, 3, LEFT * 3, 0.8), (2, 0, 3, LEFT * 4, 0.7), (0, 2, 0, LEFT, 0.5)]
    guesses = tubes([*rows, (3, 0, 0, LEFT, 0.1)], videos=("a", "b", "c", "d"), labels=("run", "jump", "swim"))
    counts = video_map(truth, guesses).counts
    assert (counts.with_truth, counts.predicted) == (2, 1)
    assert (counts.used, counts.suppressed, counts.elsewhere) == (2, 1, 1)
    assert (counts.other_class, counts.other_video) == (1, 1)
    assert video_map(truth, guesses, nms_iou=1).counts.suppressed == 0


def test_videos_and_classes_are_joined_by_name() -> None:
    truth = tubes([(0, 0, 0, LEFT * 4), (1, 1, 0, LEFT * 4)])
    swapped = tubes([(1, 1, 0, LEFT * 4, 0.9), (0, 0, 0, LEFT * 4, 0.9)], videos=("b", "a"), labels=("jump", "run"))
    assert frame_map(truth, swapped).mean_ap == video_map(truth, swapped).mean_ap == 1


def test_a_class_without_truth_counts_zero_or_not() -> None:
    truth = tubes([(0, 0, 0, LEFT)])
    result = video_map(truth, tubes([(0, 0, 0, LEFT, 0.9), (0, 1, 0, LEFT, 0.9)]))
    assert result.average_precision.tolist() == [1, 0]  # the official code stops here
    assert (result.mean_ap, result.mean_ap_present) == (0.5, 1)


def test_without_plus_one() -> None:
    truth, guesses = tubes([(0, 0, 0, [[0, 0, 4, 10]])]), tubes([(0, 0, 0, [[0, 0, 8, 10]], 0.9)])
    for metric in (frame_map, video_map):
        assert metric(truth, guesses, iou=0.51, inclusive=False).mean_ap_present == 0  # 4 of 8 columns
        assert metric(truth, guesses, iou=0.51).mean_ap_present == 1  # 5 of 9


def test_many_tubes_of_all_lengths_have_the_iou_that_a_loop_finds() -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(60):
        low = random.integers(0, 9, (random.integers(1, 30), 2)).astype(float)
        rows.append((0, 0, int(random.integers(0, 40)), np.hstack([low, low + 9]).tolist(), (number + 1) / 99))
    kept = video_map(tubes([(0, 0, 0, LEFT)]), tubes(rows), nms_iou=0.1).counts.used
    alive = [tube(*row) for row in rows[::-1]]
    count = 0
    while alive:
        best, count = alive[0], count + 1
        alive = [other for other in alive[1:] if iou_by_frame(best, other) <= 0.1]
    assert kept == count
    assert 5 < count < 55


def iou_by_frame(one: Tube, other: Tube) -> float:
    frames = range(min(one.start_frame, other.start_frame), max(one.end_frame, other.end_frame))
    total = 0.0
    for frame in frames:
        if max(one.start_frame, other.start_frame) <= frame < min(one.end_frame, other.end_frame):
            a, b = one.boxes[frame - one.start_frame], other.boxes[frame - other.start_frame]
            shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) + 1 - np.maximum(a[:2], b[:2]), 0))
            total += shared / (np.prod(a[2:] - a[:2] + 1) + np.prod(b[2:] - b[:2] + 1) - shared)
    return total / len(frames)


def test_average_precision_by_trapezoids() -> None:
    assert average_precision(np.array([True]), 1) == 1
    assert average_precision(np.array([False, True]), 1) == 0.25  # from precision 0 to 1/2
    assert average_precision(np.array([True, False]), 2) == 0.5  # what lies beyond the last recall is not counted
    assert average_precision(np.zeros(0, dtype=bool), 3) == 0


def test_predictions_without_scores_are_refused() -> None:
    for metric in (frame_map, video_map):
        with pytest.raises(ValueError, match="no scores"):
            metric(tubes([(0, 0, 0, LEFT)]), tubes([(0, 0, 0, LEFT)]))


def test_nothing_at_all() -> None:
    for metric in (frame_map, video_map):
        assert math.isnan(metric(tubes([], labels=()), tubes([])).mean_ap)
        result = metric(tubes([]), tubes([(0, 0, 0, RIGHT, 0.5)]))
        assert result.mean_ap == 0
        assert math.isnan(result.mean_ap_present)
