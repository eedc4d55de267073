from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.temporal_recall import ProposalRecall, proposal_recall

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden/metrics/temporal.npz")
CASES = sorted({name.split("/")[0] for name in GOLDEN.files if "/" in name})


@pytest.mark.parametrize("most", [100, 3, None])
@pytest.mark.parametrize("ties", ["introsort", "last"])
@pytest.mark.parametrize("case", CASES)
def test_says_what_the_official_code_says(case, ties, most, table_of):
    truth, proposals = table_of(GOLDEN[f"{case}/truth"]), table_of(GOLDEN[f"{case}/predictions"])
    found = proposal_recall(truth, proposals, max_per_video=most, ties=ties)
    np.testing.assert_array_equal(found.recall, GOLDEN[f"{case}/{ties}/recall_{most}"])
    np.testing.assert_array_equal(found.per_video, GOLDEN[f"{case}/{ties}/per_video_{most}"])


def test_a_share_of_each_videos_proposals_is_counted(table_of):
    """Two videos with 10 and 30 proposals, the right one last but one in each."""
    rows = []
    for video, num in ((0, 10), (1, 30)):
        rows += [[video, 0, 100 + index, 101 + index, 1 - index / 100] for index in range(num)]
        rows[-2][2:4] = [0, 4]
    found = proposal_recall(table_of([[0, 0, 0, 4], [1, 0, 0, 4]]), table_of(rows), max_per_video=None)
    assert found.per_video[-1] == 20
    # 9 of 10 are 90 %, 29 of 30 are 97 %
    assert [int(np.argmax(found.average_recall >= share)) + 1 for share in (0.5, 1.0)] == [90, 97]


def test_one_proposal_may_recall_two_truths_and_two_count_once(table_of):
    truth = table_of([[0, 0, 0, 10], [0, 1, 0.1, 10]])
    found = proposal_recall(truth, table_of([[0, 0, 0, 10, 0.9], [0, 0, 0, 10, 0.8]]))
    assert found.recall[:, -1].tolist() == [1.0] * 10


def test_classes_play_no_part(table_of):
    found = proposal_recall(table_of([[0, 0, 0, 10]]), table_of([[0, 3, 0, 10, 0.9]]))
    assert found.average_recall[-1] == 1.0


def test_proposals_of_other_videos_lower_the_ratio(table_of):
    truth, right = table_of([[0, 0, 0, 10]]), [0, 0, 0, 10, 0.1]
    others = [[0, 0, 20, 30, 0.9], right]
    assert proposal_recall(truth, table_of(others), max_per_video=2).average_recall[-1] == 1.0
    elsewhere = [*others, [1, 0, 0, 10, 0.5], [1, 0, 0, 10, 0.5]]
    found = proposal_recall(truth, table_of(elsewhere), max_per_video=2)
    assert found.average_recall[-1] == 0.0  # 2 of 4 on average: half of each video's are kept


def test_nothing_kept_is_zero(table_of):
    truth = table_of([[0, 0, 0, 10]])
    for rows in (np.zeros((0, 5)), [[1, 0, 0, 10, 0.9]]):
        found = proposal_recall(truth, table_of(rows))
        assert (found.auc, found.average_recall.max(), found.num_videos) == (0.0, 0.0, 1)


def test_refusals(table_of):
    truth = table_of([[0, 0, 0, 10]])
    with pytest.raises(ValueError, match="need scores"):
        proposal_recall(truth, truth)
    with pytest.raises(ValueError, match="no truth"):
        proposal_recall(table_of([[0, -1, 0, 10]]), table_of([[0, 0, 0, 10, 0.5]]))


def test_area_and_points_of_the_curve():
    tious = np.array([0.5])
    per_video = np.arange(1, 101) / 10
    found = ProposalRecall(tious, (per_video / 10)[None], per_video, 1, 1)
    assert found.at(5.05) == pytest.approx(0.505)
    assert np.isnan(found.at(10.1))
    assert found.auc == pytest.approx((10**2 - 0.1**2) / 2 / 10 / 10)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_properties(seed, table_of):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 30, (2, 60))
    spans = np.stack([start, start + rng.exponential(4, (2, 60))])
    columns = [[rng.integers(0, 6, 60), np.zeros(60), spans[0, index], spans[1, index]] for index in range(2)]
    truth = table_of(np.column_stack(columns[0]))
    proposals = table_of(np.column_stack([*columns[1], rng.permutation(60)]))
    found = proposal_recall(truth, proposals)
    assert ((found.recall >= 0) & (found.recall <= 1)).all()
    assert (np.diff(found.recall, axis=1) >= 0).all()  # more proposals never recall less
    assert (np.diff(found.recall, axis=0) <= 0).all()
    assert 0 <= found.auc <= 1
    # with all proposals counted: the share of truths that some proposal of their video meets
    best = [
        max(
            (
                max(0.0, min(e, pe) - max(s, ps)) / (max(e, pe) - min(s, ps))
                for v2, ps, pe in zip(proposals.video, proposals.start_s, proposals.end_s, strict=True)
                if v2 == v and min(e, pe) > max(s, ps)
            ),
            default=0.0,
        )
        for v, s, e in zip(truth.video, truth.start_s, truth.end_s, strict=True)
    ]
    np.testing.assert_allclose(found.recall[0, -1], np.mean(np.array(best) >= 0.5), atol=1e-9)
