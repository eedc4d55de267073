"""AVA's frame-mAP against the numbers of ActivityNet's code (tests/golden/metrics/make_ava.py)."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.metrics.ava import AvaResult, frame_map
from pipeline.metrics.temporal import Ties
from schemas.annotation import BoxTable

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden/metrics/ava.json").read_text())
NAMES = tuple(f"class {i}" for i in range(1, 81))
EVALUATED = (0, 2, 3, 6, 11)  # make_ava.py's IDS
LEFT, RIGHT = (0.0, 0.0, 0.4, 0.8), (0.5, 0.0, 0.9, 0.8)


def evaluate(case: dict[str, Any], *, ties: Ties = "introsort") -> dict[str, Any]:
    """The numbers of a case as make_ava.py writes them."""
    result = result_of(case, ties)
    ap = {name: none_if_nan(value) for name, value in zip(result.labels, result.average_precision, strict=True)}
    return {"ap": ap, "map": none_if_nan(result.mean_ap)}


def result_of(case: dict[str, Any], ties: Ties = "introsort") -> AvaResult:
    frames = [(row[0], float(row[1])) for row in rows_of(case["truth"]) if len(row) == 2]
    listed = None if case["excluded"] is None else rows_of(case["excluded"])
    excluded = None if listed is None else [(name, float(second)) for name, second in listed]
    tables = (table(case["truth"], scored=False), table(case["predictions"], scored=True))
    return frame_map(*tables, classes=EVALUATED, empty_frames=frames, excluded=excluded, ties=ties)


def table(text: str, *, scored: bool) -> BoxTable:
    """csv text as a table; read here, so that the metric is tested alone."""
    rows = [row for row in rows_of(text) if len(row) > 2]
    videos = tuple(dict.fromkeys(row[0] for row in rows))
    last = np.array([float(row[7]) if len(row) == 8 else (1.0 if scored else -1.0) for row in rows], dtype=np.float64)
    return BoxTable(
        video=np.array([videos.index(row[0]) for row in rows], dtype=np.int64),
        second=np.array([float(row[1]) for row in rows], dtype=np.float64),
        box=np.array([[float(x) for x in row[2:6]] for row in rows], dtype=np.float64).reshape(-1, 4),
        label=np.array([int(row[6]) - 1 for row in rows], dtype=np.int64),
        entity=np.full(len(rows), -1) if scored else last.astype(np.int64),
        score=last if scored else None,
        videos=videos,
        labels=NAMES,
    )


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def boxes(*rows: tuple[Any, ...], scored: bool = True) -> BoxTable:
    return table("".join(",".join(map(str, row)) + "\n" for row in rows), scored=scored)


# ---------------------------------------------------------------- against the official code


@pytest.mark.parametrize("name", GOLDEN)
def test_as_the_official_code(name: str) -> None:
    case = GOLDEN[name]
    got = evaluate(case)
    assert got["ap"] == pytest.approx(case["ap"], abs=1e-12)
    assert got["map"] == pytest.approx(case["map"], abs=1e-12)


def test_golden_cases_say_something() -> None:
    numbers = [value for case in GOLDEN.values() for value in case["ap"].values() if value is not None]
    assert len({round(value, 6) for value in numbers if 0 < value < 1}) > 10


@pytest.mark.parametrize("name", GOLDEN)
def test_every_prediction_is_accounted_for(name: str) -> None:
    counts = result_of(GOLDEN[name]).counts
    ignored = 0 if counts.elsewhere_used else counts.elsewhere
    num_read = len(rows_of(GOLDEN[name]["predictions"]))
    parts = counts.used + counts.other_class + counts.beyond_cap + counts.excluded + counts.no_area + ignored
    assert parts == num_read


# ---------------------------------------------------------------- rules of our own, and what the code says elsewhere


def test_counts() -> None:
    truth = boxes(("a", 902, *LEFT, 1), ("a", 903, *LEFT, 1), ("b", 902, *LEFT, 1), scored=False)
    guesses = boxes(
        ("a", 902, *LEFT, 1, 0.9),
        ("a", 902, *LEFT, 2, 0.9),
        ("a", 902, 0.5, 0.5, 0.5, 0.7, 1, 0.9),
        ("a", 902, *LEFT, 1, 0.1),
        ("b", 902, *LEFT, 1, 0.9),
        ("c", 902, *LEFT, 1, 0.9),
    )
    result = frame_map(truth, guesses, classes=(0,), max_per_frame=2)
    counts = result.counts
    assert (counts.frames, counts.frames_predicted) == (3, 2)
    assert (counts.used, counts.other_class, counts.beyond_cap, counts.no_area) == (2, 1, 1, 1)
    assert (counts.elsewhere, counts.elsewhere_used, counts.excluded) == (1, False, 0)
    assert result.num_truth.tolist() == [3]
    assert result.num_predictions.tolist() == [2]
    excluded = frame_map(truth, guesses, classes=(0,), excluded=[("b", 902.0), ("z", 1.0)]).counts
    assert (excluded.frames, excluded.frames_predicted, excluded.excluded) == (2, 1, 1)
    assert (excluded.elsewhere, excluded.elsewhere_used, excluded.used) == (1, True, 3)


def test_fifty_a_frame_is_an_option() -> None:
    truth = boxes(("a", 902, *LEFT, 1), scored=False)
    guesses = boxes(*[("a", 902, *RIGHT, 3, 0.9)] * 60, ("a", 902, *LEFT, 1, 0.5))
    assert frame_map(truth, guesses).mean_ap == 0
    assert frame_map(truth, guesses, max_per_frame=61).mean_ap == 1
    assert frame_map(truth, guesses, max_per_frame=0).mean_ap == 1


def test_of_equal_scores_at_the_limit_the_largest_class_id_stays() -> None:
    truth = boxes(("a", 902, *LEFT, 1), ("a", 902, *LEFT, 3), scored=False)
    guesses = boxes(("a", 902, *LEFT, 1, 0.5), ("a", 902, *LEFT, 3, 0.5), ("a", 902, *RIGHT, 4, 0.9))
    # the third row pushes one of the first two out of a limit of two: the smaller entry
    assert frame_map(truth, guesses, max_per_frame=2).average_precision[[0, 2]].tolist() == [0, 1]


def test_among_equal_scores_the_last_frame_comes_first() -> None:
    truth = boxes(("a", 902, *LEFT, 1), ("a", 903, *RIGHT, 1), scored=False)
    guesses = boxes(("a", 902, *LEFT, 1, 0.5), ("a", 903, *LEFT, 1, 0.5))
    assert frame_map(truth, guesses, ties="last").mean_ap == 1 / 2 / 2
    assert frame_map(truth, guesses, ties="introsort").mean_ap == 1 / 2 / 2


def test_threshold() -> None:
    truth = boxes(("a", 902, 0, 0, 0.5, 1, 1), scored=False)
    guesses = boxes(("a", 902, 0, 0, 1, 1, 1, 0.9))
    assert frame_map(truth, guesses, iou=0.5).mean_ap == 1
    assert frame_map(truth, guesses, iou=0.51).mean_ap == 0


def test_classes_are_joined_by_name() -> None:
    truth = boxes(("a", 902, *LEFT, 1), scored=False)
    guesses = boxes(("a", 902, *LEFT, 1, 0.9))
    renumbered = BoxTable(
        guesses.video, guesses.second, guesses.box, guesses.label + 1, guesses.entity, guesses.score,
        guesses.videos, ("unheard of", *NAMES),
    )  # fmt: skip
    assert frame_map(truth, renumbered).mean_ap == 1
    none = BoxTable(*(getattr(guesses, n) for n in BoxTable.__slots__[:6]), guesses.videos, ("x", *NAMES[1:]))
    assert frame_map(truth, none).counts.other_class == 1


def test_inverted_truth_and_missing_scores_are_refused() -> None:
    guesses = boxes(("a", 902, *LEFT, 1, 0.9))
    with pytest.raises(ValueError, match=r"row 1 is inverted: \[0\.4, 0\.0, 0\.1, 0\.8\]"):
        frame_map(boxes(("a", 902, *LEFT, 1), ("a", 902, 0.4, 0, 0.1, 0.8, 1), scored=False), guesses)
    with pytest.raises(ValueError, match="no scores"):
        frame_map(boxes(("a", 902, *LEFT, 1), scored=False), boxes(("a", 902, *LEFT, 1), scored=False))


def test_nothing_at_all() -> None:
    result = frame_map(boxes(scored=False), boxes())
    assert math.isnan(result.mean_ap)
    assert result.counts.frames == 0
