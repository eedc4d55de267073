"""Anchors, matching and regression: held against plain loops."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.heads.talnet_proposals import (
    IGNORED,
    NEGATIVE,
    PROPOSAL_TIOU,
    anchor_spans,
    choose,
    encode,
    match,
    regress,
    tiou,
)


def overlap_of(a: list[float], b: list[float]) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / ((a[1] - a[0]) + (b[1] - b[0]) - shared)


def match_by_loops(span: Tensor, truth: Tensor, positive: float, negative: float, keep_best: bool) -> list[int]:
    spans, truths = span.tolist(), truth.tolist()
    matched = []
    for one in spans:
        most, index = 0.0, NEGATIVE
        for m, other in enumerate(truths):
            if index == NEGATIVE or overlap_of(one, other) > most:
                most, index = overlap_of(one, other), m
        matched.append(index if most >= positive else NEGATIVE if most < negative else IGNORED)
    wants: dict[int, list[int]] = {}  # span -> truths whose best it is
    for m, other in enumerate(truths):
        overlaps = [overlap_of(one, other) for one in spans]
        if keep_best and max(overlaps) > 0:
            wants.setdefault(overlaps.index(max(overlaps)), []).append(m)
    for p, rivals in wants.items():
        matched[p] = max(rivals, key=lambda m: (overlap_of(spans[p], truths[m]), -m))
    return matched


def spans_on_a_grid(num: int, seed: int) -> Tensor:
    """Ends at quarters of steps, whose overlaps are exact enough that many tie."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 40, (num,), generator=generator) / 4
    return torch.stack([start, start + torch.randint(1, 17, (num,), generator=generator) / 4], dim=1)


def test_anchors_stand_at_every_step() -> None:
    anchors = anchor_spans(torch.tensor([1.0, 4.0]), 3)
    assert anchors.tolist() == [[[-0.5, 0.5], [-2, 2]], [[0.5, 1.5], [-1, 3]], [[1.5, 2.5], [0, 4]]]


def test_tiou_by_loops() -> None:
    a, b = spans_on_a_grid(30, 0), spans_on_a_grid(20, 1)
    by_loops = [[overlap_of(one, other) for other in b.tolist()] for one in a.tolist()]
    torch.testing.assert_close(tiou(a, b), torch.tensor(by_loops))


@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [(0.7, 0.3), (0.5, 0.5)])
@pytest.mark.parametrize("num_truths", [1, 2, 9])
def test_matching_by_loops(keep_best: bool, positive: float, negative: float, num_truths: int) -> None:
    for seed in range(20):
        span, truth = spans_on_a_grid(50, seed), spans_on_a_grid(num_truths, 100 + seed)
        matched = match(span, truth, positive=positive, negative=negative, keep_best=keep_best)
        assert matched.tolist() == match_by_loops(span, truth, positive, negative, keep_best), seed


def test_each_truth_has_its_best_anchor_however_bad() -> None:
    anchors = anchor_spans(torch.tensor([1.0]), 10)[:, 0]
    truth = torch.tensor([[2.0, 7.0], [30.0, 40.0]])  # the second is beyond all anchors
    matched = match(anchors, truth, positive=0.7, negative=0.3, keep_best=True)
    assert matched.tolist() == [NEGATIVE] * 3 + [0] + [NEGATIVE] * 6  # tIoU 0.2 of steps 3 to 6: the first of equals


def test_an_anchor_that_two_truths_want_is_the_nearer_ones() -> None:
    anchors = torch.tensor([[0.0, 10.0]])
    truth = torch.tensor([[0.0, 3.0], [5.0, 9.0], [1.0, 5.0]])
    assert match(anchors, truth, positive=0.7, negative=0.3, keep_best=True).tolist() == [1]


def test_without_truth_all_is_background() -> None:
    matched = match(spans_on_a_grid(5, 0), torch.zeros(0, 2), positive=0.7, negative=0.3, keep_best=True)
    assert matched.tolist() == [NEGATIVE] * 5


def test_regression_in_numbers() -> None:
    delta = encode(torch.tensor([[10.0, 14.0]]), torch.tensor([[12.0, 20.0]]))
    assert delta.flatten().tolist() == pytest.approx([(16 - 12) / 4, math.log(8 / 4)])


def test_regression_and_back() -> None:
    span, truth = spans_on_a_grid(50, 0), spans_on_a_grid(50, 1)
    torch.testing.assert_close(regress(span, encode(span, truth)), truth)
    wild = regress(span, torch.full((50, 2), 1e4))
    assert torch.isfinite(wild).all()
    assert (wild[:, 0] <= wild[:, 1]).all()


@pytest.mark.parametrize("num", [1, 5, 300])
def test_proposals_by_loops(num: int) -> None:
    span = spans_on_a_grid(200, 3)
    score = torch.randint(-20, 20, (200,), generator=torch.Generator().manual_seed(4)) / 4  # many tie
    kept: list[int] = []
    for index in sorted(range(200), key=lambda i: (-float(score[i]), i)):
        rivals = [overlap_of(span[index].tolist(), span[other].tolist()) for other in kept]
        if len(kept) < num and all(overlap < PROPOSAL_TIOU for overlap in rivals):
            kept.append(index)
    assert choose(span, score, num=num).tolist() == kept


def test_a_proposal_has_a_length() -> None:
    span = torch.tensor([[4999.0, 4999.0], [3.0, 4.0]])
    assert choose(span, torch.tensor([9.0, -9.0]), num=10).tolist() == [1]
