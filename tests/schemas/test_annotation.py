from dataclasses import replace

import numpy as np
import pytest

from schemas.annotation import AMBIGUOUS, BoxTable, SegmentTable, Tube, TubeSet, VideoShape


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


SEGMENTS = SegmentTable(
    video=ints(0, 2, 0),
    start_s=floats(0, 1, 2),
    end_s=floats(1, 3, 2),
    label=ints(1, AMBIGUOUS, 0),
    score=None,
    videos=("a", "b", "c"),
    labels=("run", "jump"),
    subset=("training", None, "test"),
    duration_s=floats(9, np.nan, 3),
)
BOXES = BoxTable(
    video=ints(0, 1),
    second=floats(902, 903),
    box=np.array([[0, 0, 0.5, 1], [0.2, 0.2, 0.3, 0.4]]),
    label=ints(0, 0),
    entity=ints(4, -1),
    score=floats(0.5, 0.25),
    videos=("a", "b"),
    labels=("run",),
)


def test_rows_are_selected_by_mask_and_by_index() -> None:
    picked = SEGMENTS.select(np.array([True, False, True]))
    assert picked.start_s.tolist() == [0, 2]
    assert (picked.videos, len(picked)) == (SEGMENTS.videos, 2)
    boxes = BOXES.select(ints(1))
    assert (boxes.score.tolist(), boxes.entity.tolist(), boxes.box.shape) == ([0.25], [-1], (1, 4))


def test_ambiguous_segments_are_told_apart() -> None:
    assert SEGMENTS.certain().label.tolist() == [1, 0]
    assert SEGMENTS.ambiguous().start_s.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": ints(0, 3, 0)}, "video: want 0 to 2, got 0 to 3"),
        ({"label": ints(0, -2, 0)}, "label: want -1 to 1, got -2 to 0"),
        ({"label": floats(0, 1, 0)}, "label: want int64"),
        ({"start_s": floats(0, 1)}, r"start_s: want float64 of shape \(3,\)"),
        ({"end_s": floats(0, 1, np.nan)}, "end_s: want finite numbers, got nan"),
        ({"score": floats(0, 1, np.inf)}, "score: want finite numbers, got inf"),
        ({"duration_s": floats(9, np.inf, 1)}, "duration_s: want finite"),
        ({"subset": ("a",)}, "want a subset for each of 3 videos"),
        ({"labels": ("run", "run")}, "labels: a name stands there twice: 'run'"),
    ],
)
def test_bad_segments_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SEGMENTS, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ints(0, AMBIGUOUS)}, "label: want 0 to 0"),
        ({"box": np.zeros((2, 3))}, "box: want float64"),
        ({"entity": floats(0, 1)}, "entity: want int64"),
        ({"second": np.array([1, 2])}, "second: want float64"),
        ({"score": floats(1)}, "score: want float64"),
    ],
)
def test_bad_boxes_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BOXES, **change)


def test_a_tube_ends_after_its_last_box() -> None:
    tube = Tube(video=0, label=0, start_frame=7, boxes=np.zeros((3, 4)), score=0.5, box_scores=floats(1, 2, 3))
    assert tube.end_frame == 10
    assert len(TubeSet((tube,), ("a",), ("run",), (VideoShape(20),))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((0, 4))}, "one frame or more"),
        ({"start_frame": -1}, "from 0 on"),
        ({"score": float("nan")}, "score: want a finite number"),
        ({"box_scores": floats(1)}, "box_scores: want float64"),
        ({"boxes": np.full((2, 4), np.inf)}, "boxes: want finite"),
    ],
)
def test_bad_tubes_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Tube(video=0, label=0, start_frame=0, boxes=np.zeros((2, 4))), **change)


def test_a_tube_of_no_known_video_is_refused() -> None:
    tube = Tube(video=1, label=0, start_frame=0, boxes=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="no known video"):
        TubeSet((tube,), ("a",), ("run",), (VideoShape(2),))
    with pytest.raises(ValueError, match="want a shape"):
        TubeSet((), ("a",), ("run",), ())
