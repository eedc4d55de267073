from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.temporal import (
    ACTIVITYNET_TIOUS,
    AveragePrecision,
    Ties,
    detection_ap,
    falling_order,
    interpolated_ap,
    temporal_iou,
    without_videos,
)
from schemas.annotation import AMBIGUOUS, SegmentTable

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden/metrics/temporal.npz")
CASES = sorted({name.split("/")[0] for name in GOLDEN.files if "/" in name})
DATA = Path(__file__).resolve().parents[3] / ".." / "shared/data/activitynet"


@pytest.mark.parametrize("ties", ["introsort", "last"])
@pytest.mark.parametrize("case", CASES)
def test_says_what_the_official_code_says(case, ties, table_of):
    truth, predictions = table_of(GOLDEN[f"{case}/truth"]), table_of(GOLDEN[f"{case}/predictions"])
    found = detection_ap(truth, predictions, tious=GOLDEN["tious"], ties=ties)
    assert list(found.labels) == GOLDEN[f"{case}/classes"].tolist()
    np.testing.assert_array_equal(found.ap, GOLDEN[f"{case}/{ties}/ap"])
    assert found.average_map == GOLDEN[f"{case}/{ties}/average_map"]


def test_the_goldens_tell_orders_of_ties_apart():
    differ = [case for case in CASES if (GOLDEN[f"{case}/introsort/ap"] != GOLDEN[f"{case}/last/ap"]).any()]
    assert {"ten_scores", "one_score", "crowded_ties"} <= set(differ)
    assert "plain" not in differ


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/activitynet")
def test_official_sample_predictions():
    truth, predictions = _official_sample()
    assert detection_ap(truth, predictions).average_map == pytest.approx(0.9719758051, abs=1e-9)
    assert detection_ap(truth, predictions, ties="introsort").average_map == pytest.approx(0.9741573656, abs=1e-9)


def _official_sample() -> tuple[SegmentTable, SegmentTable]:
    """Straight from the json, without the project's reader."""
    database = json.loads((DATA / "groundtruth_v1-3_rebuilt.json").read_text())["database"]
    results = json.loads((DATA / "sample_detection_prediction.json").read_text())["results"]
    chosen = {name: entry["annotations"] for name, entry in database.items() if entry["subset"] == "validation"}
    return _table(chosen), _table(results)


def _table(videos: dict[str, list[dict]]) -> SegmentTable:
    rows = [(video, found) for video, entries in enumerate(videos.values()) for found in entries]
    labels = sorted({found["label"] for _, found in rows})
    spans = np.array([found["segment"] for _, found in rows], float)
    return SegmentTable(
        video=np.array([video for video, _ in rows]),
        label=np.array([labels.index(found["label"]) for _, found in rows]),
        start_s=spans[:, 0].copy(),
        end_s=spans[:, 1].copy(),
        score=np.array([found["score"] for _, found in rows], float) if "score" in rows[0][1] else None,
        videos=tuple(videos),
        labels=tuple(labels),
    )


def _slow_ap(truth: SegmentTable, predictions: SegmentTable, tiou: float, label: str) -> float:
    """One class at one threshold, prediction after prediction, for scores without ties."""
    truths = [
        (truth.videos[v], s, e)
        for v, s, e, c in zip(truth.video, truth.start_s, truth.end_s, truth.label, strict=True)
        if truth.labels[c] == label
    ]
    columns = predictions.score, predictions.video, predictions.start_s, predictions.end_s, predictions.label
    found = [row for row in zip(*columns, strict=True) if predictions.labels[row[4]] == label]
    free, hits = set(range(len(truths))), []
    for _, video, start, end, _ in sorted(found, reverse=True):
        best = None
        for index in free:
            name, s, e = truths[index]
            shared = max(0.0, min(end, e) - max(start, s))
            value = shared / ((e - s) + (end - start) - shared)
            if name == predictions.videos[video] and value >= tiou and (best is None or value > best[0]):
                best = (value, index)
        free -= {best[1]} if best else set()
        hits.append(best is not None)
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / len(truths)


@given(seed=st.integers(0, 10**6), num=st.integers(1, 60), truths=st.integers(1, 25), videos=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_against_one_prediction_at_a_time(seed, num, truths, videos, table_of):
    rng = np.random.default_rng(seed)
    truth, predictions = _random_tables(rng, num, truths, videos, table_of)
    tious = np.array([0.1, 0.35, 0.6])
    found = detection_ap(truth, predictions, tious=tious)
    slow = [[_slow_ap(truth, predictions, tiou, label) for label in found.labels] for tiou in tious]
    np.testing.assert_allclose(found.ap, slow, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_properties(seed, table_of):
    rng = np.random.default_rng(seed)
    truth, predictions = _random_tables(rng, 80, 30, 5, table_of)
    found = detection_ap(truth, predictions)
    assert ((found.ap >= 0) & (found.ap <= 1)).all()
    assert (np.diff(found.ap, axis=0) <= 1e-12).all()  # a higher threshold is never easier
    # only the order of scores counts; without ties the order of the file does not
    squeezed = replace(predictions, score=np.tanh(predictions.score) * 3 - 5)
    shuffled = predictions.select(rng.permutation(len(predictions)))
    for same in (squeezed, shuffled):
        np.testing.assert_array_equal(detection_ap(truth, same).ap, found.ap)
    later = (
        replace(truth, start_s=truth.start_s + 64, end_s=truth.end_s + 64),
        replace(predictions, start_s=predictions.start_s + 64, end_s=predictions.end_s + 64),
    )
    np.testing.assert_allclose(detection_ap(*later).ap, found.ap, atol=1e-9)
    for ties in ("introsort", "installed"):
        np.testing.assert_array_equal(detection_ap(truth, predictions, ties=ties).ap, found.ap)


def _random_tables(rng, num: int, truths: int, videos: int, table_of) -> tuple[SegmentTable, SegmentTable]:
    def spans(count: int) -> np.ndarray:
        start = rng.uniform(0, 20, count)
        return np.stack([start, start + rng.uniform(0.5, 12, count)], axis=1)

    truth = np.column_stack([rng.integers(0, videos, truths), rng.integers(0, 3, truths), spans(truths)])
    found = [rng.integers(0, videos + 1, num), rng.integers(0, 3, num), spans(num), rng.permutation(num) / num]
    return table_of(truth), table_of(np.column_stack(found))


def test_names_decide_not_numbers(table_of):
    truth = table_of([[0, 0, 0, 4], [1, 1, 0, 4]], videos=("a", "b"), labels=("run", "jump"))
    found = table_of([[0, 1, 0, 4, 0.9], [1, 0, 0, 4, 0.8]], videos=("b", "a"), labels=("run", "jump"))
    assert detection_ap(truth, found).ap.tolist() == np.ones((10, 2)).tolist()
    swapped = table_of([[0, 1, 0, 4, 0.9], [1, 0, 0, 4, 0.8]], videos=("b", "a"), labels=("jump", "run"))
    assert detection_ap(truth, swapped).ap.tolist() == np.zeros((10, 2)).tolist()


def test_classes_stand_as_the_truth_names_them(table_of):
    truth = table_of([[0, 2, 0, 1], [0, 0, 2, 3], [0, 2, 4, 5]], labels=("a", "b", "c"))
    found = detection_ap(truth, table_of([[0, 0, 2, 3, 0.9], [0, 1, 0, 1, 0.8]], labels=("a", "x", "c")))
    assert found.labels == ("c", "a")
    assert found.num_truths.tolist() == [2, 1]
    assert found.num_predictions.tolist() == [0, 1]
    assert found.num_other == 1
    assert found.ap[0].tolist() == [0.0, 1.0]


def test_ambiguous_truth_is_left_out(table_of):
    truth, found = [[0, 0, 0, 4]], [[0, 0, 0, 4, 0.2], [0, 0, 10, 14, 0.9], [0, AMBIGUOUS, 0, 4, 0.95]]
    without = detection_ap(table_of(truth), table_of(found))
    beside = detection_ap(table_of([*truth, [0, AMBIGUOUS, 10, 14]]), table_of(found))
    assert without.ap.tolist() == beside.ap.tolist() == [[0.5]] * 10
    assert without.num_other == 1


def test_no_predictions(table_of):
    found = detection_ap(table_of([[0, 0, 0, 4]]), table_of(np.zeros((0, 5))))
    assert found.ap.tolist() == [[0.0]] * 10
    assert found.average_map == 0.0
    assert found.num_tied == 0


def test_tied_scores_are_counted(table_of):
    truth = table_of([[0, 0, 0, 4], [0, 1, 0, 4]])
    rows = [[0, 0, 0, 4, 0.5], [0, 0, 0, 4, 0.5], [0, 0, 0, 4, 0.1], [0, 1, 0, 4, 0.5], [0, 1, 0, 4, 0.1]]
    assert detection_ap(truth, table_of(rows)).num_tied == 2
    rows[3][4] = 0.1
    assert detection_ap(truth, table_of(rows)).num_tied == 4


def test_last_of_the_file_first_among_ties(table_of):
    truth = table_of([[0, 0, 0, 4]])
    right, wrong = [0, 0, 0, 4, 0.5], [0, 0, 50, 54, 0.5]
    for ties in ("last", "introsort"):
        assert detection_ap(truth, table_of([wrong, right]), ties=ties).average_map == 1.0
        assert detection_ap(truth, table_of([right, wrong]), ties=ties).average_map == 0.5


@pytest.mark.parametrize("ties", ["last", "introsort", "installed"])
def test_falling_order_is_argsort_reversed(ties: Ties):
    values = np.array([0.1, np.nan, 0.7, 0.3])
    assert falling_order(values, ties).tolist() == np.argsort(values)[::-1].tolist() == [1, 2, 3, 0]
    many = np.random.default_rng(0).integers(0, 9, (3, 100)).astype(float)
    falling = np.take_along_axis(many, falling_order(many, ties), axis=1)
    assert (np.diff(falling, axis=1) <= 0).all()
    if ties == "installed":
        np.testing.assert_array_equal(falling_order(many[0], ties), np.argsort(many[0])[::-1])


def test_refusals(table_of):
    truth, found = table_of([[0, 0, 0, 4]]), table_of([[0, 0, 0, 4, 0.5]])
    with pytest.raises(ValueError, match="may be swapped"):
        detection_ap(found, truth)
    with pytest.raises(ValueError, match="no truth"):
        detection_ap(table_of([[0, AMBIGUOUS, 0, 4]]), found)


def test_blocked_videos(table_of):
    rows = [[0, 0, 0, 4], [1, 0, 0, 4], [2, 0, 0, 5]]
    truth = replace(table_of(rows, videos=("a", "b", "c")), subset=("x", "y", "z"), duration_s=np.array([7.0, 8, 9]))
    left = without_videos(truth, {"a", "elsewhere"})
    assert (left.videos, left.subset, left.duration_s.tolist()) == (("b", "c"), ("y", "z"), [8, 9])
    assert (left.video.tolist(), left.end_s.tolist()) == ([0, 1], [4, 5])
    assert without_videos(table_of(rows), ()).video.tolist() == [0, 1, 2]


def test_temporal_iou_by_hand():
    start, end = np.array([0.0, 5.0, 7.0]), np.array([10.0, 15.0, 7.0])
    found = temporal_iou(start, end, np.array([5.0, 10.0, 7.0]), np.array([15.0, 20.0, 7.0]))
    expected = [[5 / 15, 0, 0], [1, 5 / 15, 0], [0, 0, np.nan]]
    np.testing.assert_array_equal(found, expected)


def test_interpolated_ap_by_hand():
    # ranks 0 and 3 of four truths: precision 1 and 1/2
    assert interpolated_ap(np.array([0, 3]), 4) == 0.25 * 1 + 0.25 * 0.5
    # a low precision is lifted to a later, higher one: ranks 2, 3, 4 are 1/3, 2/4, 3/5
    assert interpolated_ap(np.array([2, 3, 4]), 3) == pytest.approx(0.6)
    assert interpolated_ap(np.zeros(0, np.int64), 3) == 0.0


def test_average_is_over_classes_then_thresholds():
    ap = np.array([[1.0, 0.5], [0.5, 0.0]])
    num = np.array([1, 1])
    found = AveragePrecision(ACTIVITYNET_TIOUS[:2], ("a", "b"), ap, num, num, 0, 0)
    assert found.mean_ap.tolist() == [0.75, 0.25]
    assert found.average_map == 0.5


def test_a_video_with_very_many_predictions(table_of, monkeypatch):
    """Taken in several parts, the pairs are the same."""
    monkeypatch.setattr("pipeline.metrics.temporal._MAX_CELLS", 7)
    truth, found = table_of(GOLDEN["crowded/truth"]), table_of(GOLDEN["crowded/predictions"])
    np.testing.assert_array_equal(detection_ap(truth, found).ap, GOLDEN["crowded/last/ap"])
