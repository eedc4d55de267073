"""What is drawn of a localization head's detections, and that equal data give equal bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.training.temporal.timeline import Panel, draw_timeline, lanes, make_panel, matches, spread
from schemas.annotation import AMBIGUOUS, SegmentTable

CLASSES = ("jump", "run")


def table(
    *rows: tuple[float, float, int, float], labels: tuple[str, ...] = CLASSES, scored: bool = True
) -> SegmentTable:
    """A table of one video, of (start_s, end_s, label, score)."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return SegmentTable(
        video=np.zeros(len(columns), np.int64),
        start_s=columns[:, 0],
        end_s=columns[:, 1],
        label=columns[:, 2].astype(np.int64),
        score=columns[:, 3] if scored else None,
        videos=("v",),
        labels=labels,
    )


def panel(truth: SegmentTable, found: SegmentTable) -> Panel:
    return make_panel("v", truth, found, score=0.5, covered_s=(0.0, 100.0))


TRUTH = table((10, 20, 0, 0), (30, 50, 1, 0), (60, 70, 0, 0), (80, 90, AMBIGUOUS, 0), scored=False)
FOUND = table((11, 20, 0, 0.9), (10, 20, 0, 0.6), (30, 41, 1, 0.8), (62, 75, 1, 0.7), (80, 95, 0, 0.1))


def test_labels_go_by_name() -> None:
    truth = table((10, 20, 2, 0), (30, 50, 0, 0), (60, 70, 1, 0), labels=("run", "unknown", "jump"), scored=False)
    assert panel(truth, FOUND).truth_label.tolist() == [0, 1, AMBIGUOUS]


def test_detections_come_best_first() -> None:
    found = panel(TRUTH, FOUND)
    assert found.found_score.tolist() == [0.9, 0.8, 0.7, 0.6, 0.1]
    assert found.found_label.tolist() == [0, 1, 1, 0, 0]
    assert found.found_s[3].tolist() == [10, 20]


def test_the_best_of_each_class_in_the_video_are_shown() -> None:
    """The scores of one class may all lie above those of the other."""
    many = [(float(k), k + 1.0, 1, 0.9 - k / 1000) for k in range(50)]
    few = [(float(k), k + 1.0, 0, 0.2 - k / 1000) for k in range(50)]
    shown = panel(table((10, 11, 0, 0), scored=False), table(*many, *few))
    assert shown.num_found == 100
    assert shown.found_label.tolist() == [1, 1, 1, 1, 0, 0]
    assert shown.found_score.tolist() == [0.9, 0.899, 0.898, 0.897, 0.2, 0.199]
    crowd = table(*((float(k), k + 1.0, 0, 0.0) for k in range(60)), scored=False)
    assert len(panel(crowd, table(*few)).found_s) == 30


@pytest.mark.parametrize("tiou", [0.5, 0.55])
def test_which_are_found_and_which_find(tiou: float) -> None:
    found, hits = matches(panel(TRUTH, FOUND), tiou)
    assert hits.tolist() == [True, tiou <= 0.55, False, False, False]  # the second on [10, 20] comes too late
    assert found.tolist() == [True, True, False, False]
    found, hits = matches(panel(TRUTH, FOUND), 0.56)
    assert hits.tolist() == [True, False, False, False, False]


def test_nothing_to_match() -> None:
    for truth, found in ((table(scored=False), FOUND), (TRUTH, table())):
        one = panel(truth, found)
        taken, hits = matches(one, 0.5)
        assert not taken.any()
        assert not hits.any()
        assert (len(taken), len(hits)) == (len(one.truth_s), len(one.found_s))


def test_what_overlaps_stands_in_lanes() -> None:
    spans = np.array([[0, 10], [5, 15], [10, 20], [12, 13], [0, 30]], dtype=np.float64)
    assert lanes(spans).tolist() == [0, 1, 0, 2, 3]
    assert lanes(np.zeros((0, 2))).tolist() == []


def test_videos_from_the_best_to_the_worst() -> None:
    scores = {f"v{k:02d}": k / 20 for k in range(21)}
    assert spread(scores, num=5) == ["v20", "v15", "v10", "v05", "v00"]
    assert spread({"b": 0.5, "a": 0.5, "c": 1.0}) == ["c", "a", "b"]
    assert spread({}) == []


# ---------------------------------------------------------------- pixels


def draw(*panels: Panel, classes: Any = CLASSES, frame: np.ndarray | None = None, **changes: Any) -> bytes:
    settings: dict[str, Any] = {"frame_at": lambda name, second: frame, "tiou": 0.5, "title": "heads/h"} | changes
    return draw_timeline(panels, classes=classes, **settings)


def pixels(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= 3).sum())


BLUE, ORANGE, GREY = (31, 119, 180), (255, 127, 14), (153, 153, 153)


def test_equal_data_give_equal_bytes() -> None:
    one = panel(TRUTH, FOUND)
    assert draw(one, one) == draw(one, one)
    assert draw(one) != draw(replace(one, score=0.75))


def test_classes_have_colours() -> None:
    only_jump = pixels(draw(panel(table((10, 60, 0, 0), scored=False), table())))
    both = pixels(draw(panel(table((10, 60, 0, 0), (70, 80, 1, 0), scored=False), table())))
    vague = pixels(draw(panel(table((10, 60, AMBIGUOUS, 0), scored=False), table((10, 60, 0, 1.0)))))
    assert count(only_jump, BLUE) > 1000
    assert count(only_jump, ORANGE) == 0
    assert count(both, ORANGE) > 500
    assert count(vague, GREY) > 5000  # 50 s of 100, never hatched
    assert count(vague, BLUE) > 5000  # what is found


def test_opacity_tells_the_score() -> None:
    truth = table((1, 2, 1, 0), scored=False)
    strong = pixels(draw(panel(truth, table((10, 60, 0, 0.8)))))
    weak = pixels(draw(panel(truth, table((10, 60, 0, 0.2), (70, 75, 0, 0.8)))))
    assert count(strong, BLUE) > 4 * count(weak, BLUE)


def test_a_segment_that_is_not_found_is_hatched() -> None:
    truth = table((10, 60, 0, 0), scored=False)
    found, missed = (pixels(draw(panel(truth, table((10, 60, label, 1.0))))) for label in (0, 1))
    assert count(found, BLUE) > 2.2 * count(missed, BLUE) > 1000  # two bars; one that is half white


def test_frames_stand_above_where_there_are_any() -> None:
    magenta = np.zeros((120, 160, 3), np.uint8)
    magenta[..., [0, 2]] = 255
    one = panel(TRUTH, FOUND)
    without, with_strip = pixels(draw(one)), pixels(draw(one, frame=magenta))
    assert with_strip.shape[0] - without.shape[0] == 72
    assert count(with_strip, (255, 0, 255)) > 0.95 * 72 * 1000
    half = pixels(draw(one, frame_at=lambda name, second: magenta if second < 50 else None))
    assert 0.4 < count(half, (255, 0, 255)) / (72 * 1000) < 0.6


def test_frames_are_asked_for_at_their_places() -> None:
    asked: list[float] = []

    def frame_at(name: str, second: float) -> np.ndarray:
        assert name == "v"
        asked.append(second)
        return np.zeros((100, 139, 3), np.uint8)

    draw(replace(panel(TRUTH, FOUND), covered_s=(20.0, 120.0)), frame_at=frame_at)
    assert asked == pytest.approx([20.0, *(20 + 5 + 10 * k for k in range(10))])


def test_many_classes_and_odd_names() -> None:
    classes = tuple(f"class $_{{{k}}}^" for k in range(30))
    rows = [(2.0 * k, 2.0 * k + 1, k, 0.5) for k in range(30)]
    one = make_panel(
        "v", table(*rows, labels=classes, scored=False), table(*rows, labels=classes), score=1, covered_s=(0, 60)
    )
    assert pixels(draw(replace(one, name="$x_" * 60), classes=classes, title="a $ b")).shape[1] == 1100
