from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.thumos import THUMOS_TIOUS, thumos_ap
from schemas.annotation import AMBIGUOUS, SegmentTable

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden/metrics/thumos.npz")
CASES = sorted({name.split("/")[0] for name in GOLDEN.files if "/" in name})


@pytest.mark.parametrize("case", CASES)
def test_says_what_the_official_code_says(case, table_of):
    truth, predictions = table_of(GOLDEN[f"{case}/truth"]), table_of(GOLDEN[f"{case}/predictions"])
    found = thumos_ap(truth, predictions, tious=GOLDEN["tious"])
    by_number = np.argsort([truth.labels.index(label) for label in found.labels])
    np.testing.assert_array_equal(found.ap[:, by_number], GOLDEN[f"{case}/ap"])


def _ap(table_of, truth, found, tiou=0.5) -> float:
    return float(thumos_ap(table_of(truth), table_of(found), tious=np.array([tiou])).ap[0, 0])


def test_each_truth_takes_the_nearest_free_detection_not_the_surest(table_of):
    truth = [[0, 0, 0, 10]]
    near, sure = [0, 0, 0, 10, 0.1], [0, 0, 0, 8, 0.9]
    assert _ap(table_of, truth, [near, sure]) == 0.5  # the surer one comes first, and is a mistake


def test_at_the_threshold_is_no_hit(table_of):
    truth = [[0, 0, 0, 10]]
    assert _ap(table_of, truth, [[0, 0, 0, 5, 0.9]]) == 0.0
    assert _ap(table_of, truth, [[0, 0, 0, 5.125, 0.9]]) == 1.0


def test_precision_is_not_interpolated(table_of):
    truth = [[0, 0, 0, 10], [0, 0, 20, 30]]
    found = [[0, 0, 50, 60, 0.9], [0, 0, 0, 10, 0.8], [0, 0, 20, 30, 0.7]]
    assert _ap(table_of, truth, found) == (1 / 2 + 2 / 3) / 2


def test_ambiguous_takes_mistakes_away_but_not_hits(table_of):
    truth = [[0, 0, 0, 10], [0, AMBIGUOUS, 8, 30]]
    hit, touching, elsewhere = [0, 0, 0, 10, 0.5], [0, 0, 25, 40, 0.9], [1, 0, 25, 40, 0.8]
    assert _ap(table_of, truth, [hit, touching]) == 1.0
    assert _ap(table_of, truth, [hit, touching, elsewhere]) == 0.5
    assert _ap(table_of, truth, [hit, [0, 0, 30, 40, 0.9]]) == 0.5  # ends that meet do not touch


def test_ambiguous_in_a_video_without_truth_of_the_class(table_of):
    truth = [[0, 0, 0, 10], [1, AMBIGUOUS, 0, 10]]
    assert _ap(table_of, truth, [[0, 0, 0, 10, 0.5], [1, 0, 5, 6, 0.9]]) == 1.0


def test_all_of_a_class_ambiguous_is_zero(table_of):
    assert _ap(table_of, [[0, 0, 0, 10], [1, AMBIGUOUS, 0, 10]], [[1, 0, 0, 10, 0.9]]) == 0.0


def test_ties_stand_by_video_name_then_by_the_file(table_of):
    right, wrong = [0, 0, 0, 10, 0.5], [1, 0, 0, 10, 0.5]
    for videos, expected in ((("a", "b"), 1.0), (("b", "a"), 0.5)):
        for rows in ([right, wrong], [wrong, right]):
            truth, found = table_of([[0, 0, 0, 10]], videos=videos), table_of(rows, videos=videos)
            assert thumos_ap(truth, found).mean_ap[0] == expected
    assert _ap(table_of, [[0, 0, 0, 10]], [right, [0, 0, 50, 60, 0.5]]) == 1.0
    assert _ap(table_of, [[0, 0, 0, 10]], [[0, 0, 50, 60, 0.5], right]) == 0.5


def test_inverted_segments_are_turned_round(table_of):
    assert _ap(table_of, [[0, 0, 10, 0]], [[0, 0, 10, 0, 0.9]]) == 1.0
    assert _ap(table_of, [[0, 0, 10, 0]], [[0, 0, 0, 10, 0.9]]) == 1.0


def test_classes_and_counts(table_of):
    truth = table_of([[0, 1, 0, 10], [0, 0, 20, 30], [0, 1, 40, 50]], labels=("a", "b", "c"))
    found = thumos_ap(truth, table_of([[0, 2, 0, 10, 0.9], [0, 1, 0, 10, 0.8]], labels=("a", "b", "c")))
    assert (found.labels, found.num_other, found.num_tied) == (("b", "a"), 1, 0)
    assert found.num_truths.tolist() == [2, 1]
    assert found.num_predictions.tolist() == [1, 0]
    assert found.ap[0].tolist() == [0.5, 0.0]


def test_no_predictions(table_of):
    found = thumos_ap(table_of([[0, 0, 0, 10]]), table_of(np.zeros((0, 5))))
    assert found.mean_ap.tolist() == [0.0] * len(THUMOS_TIOUS)


def test_refusals(table_of):
    truth = table_of([[0, 0, 0, 10]])
    with pytest.raises(ValueError, match="need scores"):
        thumos_ap(truth, truth)
    with pytest.raises(ValueError, match="no truth"):
        thumos_ap(table_of([[0, AMBIGUOUS, 0, 10]]), table_of([[0, 0, 0, 10, 0.5]]))


def _slow_ap(truth: SegmentTable, predictions: SegmentTable, tiou: float, label: int) -> float:
    """One class at one threshold, for scores without ties."""
    fates = []
    mine = [i for i in range(len(truth)) if truth.label[i] == label]
    for video in range(len(predictions.videos)):
        rows = [i for i in range(len(predictions)) if (predictions.video[i], predictions.label[i]) == (video, label)]
        rows.sort(key=lambda i: -predictions.score[i])
        free = list(rows)
        for one in (i for i in mine if truth.video[i] == video):
            best = max(free, key=lambda i: _overlap(truth, one, predictions, i), default=None)
            if best is not None and _overlap(truth, one, predictions, best) > tiou:
                free.remove(best)
                fates.append((predictions.score[best], True))
        vague = [i for i in range(len(truth)) if (truth.label[i], truth.video[i]) == (AMBIGUOUS, video)]
        fates += [
            (predictions.score[i], False)
            for i in free
            if all(_overlap(truth, one, predictions, i) == 0 for one in vague)
        ]
    hits = [hit for _, hit in sorted(fates, reverse=True)]
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / len(mine)


def _overlap(truth: SegmentTable, one: int, predictions: SegmentTable, other: int) -> float:
    shared = min(truth.end_s[one], predictions.end_s[other]) - max(truth.start_s[one], predictions.start_s[other])
    whole = max(truth.end_s[one], predictions.end_s[other]) - min(truth.start_s[one], predictions.start_s[other])
    return max(0.0, shared) / whole


@given(seed=st.integers(0, 10**6), num=st.integers(1, 60), truths=st.integers(3, 25))
@settings(max_examples=40, deadline=None)
def test_against_one_truth_at_a_time(seed, num, truths, table_of):
    rng = np.random.default_rng(seed)

    def spans(count: int) -> np.ndarray:
        start = rng.uniform(0, 20, count)
        return np.stack([start, start + rng.uniform(0.5, 12, count)], axis=1)

    labels = np.concatenate([[0, 1], rng.integers(-1, 2, truths - 2)])
    truth = table_of(np.column_stack([rng.integers(0, 3, truths), labels, spans(truths)]))
    scores = rng.permutation(num) / num
    found = table_of(np.column_stack([rng.integers(0, 4, num), rng.integers(0, 2, num), spans(num), scores]))
    tious = np.array([0.1, 0.5])
    answer = thumos_ap(truth, found, tious=tious)
    slow = [[_slow_ap(truth, found, tiou, truth.labels.index(label)) for label in answer.labels] for tiou in tious]
    np.testing.assert_allclose(answer.ap, slow, rtol=0, atol=1e-12)
    # the order of the file does not count without ties, nor do monotone changes of the scores
    shuffled = replace(found, score=np.exp(found.score)).select(rng.permutation(num))
    np.testing.assert_array_equal(thumos_ap(truth, shuffled, tious=tious).ap, answer.ap)
