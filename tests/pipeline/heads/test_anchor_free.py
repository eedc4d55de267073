"""Points, who answers for which segment, and the losses: each against a plain loop."""

from __future__ import annotations

import math
import random

import pytest
import torch

from pipeline.heads.anchor_free import Points, assign, diou_loss, focal_loss, make_points
from pipeline.heads.temporal import StepSegments

LEVELS, NUM_CLASSES = 3, 4
RANGES = [(0, 4), (4, 8), (8, math.inf)]  # of the farther end, in steps, with LEVELS levels


def segments(*rows: tuple[float, float, int]) -> StepSegments:
    span = torch.tensor([row[:2] for row in rows], dtype=torch.float32).reshape(-1, 2)
    return StepSegments(span=span, label=torch.tensor([row[2] for row in rows], dtype=torch.int64))


def claims(step: float, level: int, start: float, end: float) -> bool:
    """Whether a segment claims a point, by the rules of the module's docstring."""
    stride, center = 2**level, (start + end) / 2
    tiny = end - start <= 1 and level == 0 and abs(step - center) <= 0.5
    farther = max(step - start, end - step)
    near = abs(step - center) < 1.5 * stride
    return (start < step < end or tiny) and near and RANGES[level][0] <= farther <= RANGES[level][1]


def random_segments(rng: random.Random) -> StepSegments:
    rows = []
    for _ in range(rng.randint(1, 8)):
        start, length = rng.randint(-8, 160) / 4, rng.choice([0.5, 1, 2, 3.25, 6, 8, 15, 16, 24.5, 40])
        rows.append((start, start + length, rng.randrange(NUM_CLASSES)))
    return segments(*rows, *rng.sample(rows, 1))  # the same one twice


def test_points_of_each_level() -> None:
    points = make_points(5, LEVELS)
    assert points.step.tolist() == [0, 1, 2, 3, 4, 0, 2, 4, 0, 4]
    assert points.stride.tolist() == [1] * 5 + [2] * 3 + [4] * 2
    bounds = list(zip(points.nearest.tolist(), points.farthest.tolist(), strict=True))
    assert bounds == [RANGES[0]] * 5 + [RANGES[1]] * 3 + [RANGES[2]] * 2
    assert make_points(1, LEVELS).step.tolist() == [0, 0, 0]
    assert make_points(1, 1).farthest.tolist() == [math.inf]


@pytest.mark.parametrize("seed", range(8))
def test_assignment_against_a_loop(seed: int) -> None:
    truth, points = random_segments(random.Random(seed)), make_points(40, LEVELS)
    classes, distance = assign(points, truth, NUM_CLASSES)
    rows = list(zip(truth.span.tolist(), truth.label.tolist(), strict=True))
    num_positive = 0
    for p, (step, stride) in enumerate(zip(points.step.tolist(), points.stride.tolist(), strict=True)):
        level = int(math.log2(stride))
        claimants = [row for row in rows if claims(step, level, *row[0])]
        shortest = min((end - start for (start, end), _ in claimants), default=0.0)
        winners = [row for row in claimants if row[0][1] - row[0][0] == shortest]
        assert set(classes[p].nonzero().flatten().tolist()) == {label for _, label in winners}
        assert set(classes[p].tolist()) <= {0.0, 1.0}
        if winners:
            num_positive += 1
            start, end = winners[0][0]
            assert distance[p].tolist() == [max(0, step - start) / stride, max(0, end - step) / stride]
    assert num_positive > 0


def test_every_segment_within_the_sequence_has_a_point() -> None:
    points = make_points(200, 5)
    for length in [0.05, 0.5, 1, 1.01, 1.5, 2, 3.9, 4, 7.99, 8, 8.01, 9, 15.9, 16, 17, 33, 63, 65, 100, 180]:
        for shift in torch.arange(0, 16, 0.25).tolist():
            classes, _ = assign(points, segments((shift, shift + length, 1)), 2)
            assert classes[:, 1].any(), (length, shift)
            assert not classes[:, 0].any()


def test_a_video_without_segments_has_background_alone() -> None:
    points = make_points(7, LEVELS)
    classes, distance = assign(points, segments(), NUM_CLASSES)
    assert classes.shape == (len(points.step), NUM_CLASSES)
    assert distance.shape == (len(points.step), 2)
    assert not classes.any()


def test_two_labels_of_the_same_segment_are_both_said() -> None:
    points = Points(*(torch.tensor([value]) for value in (5.0, 1.0, 0.0, 4.0)))
    classes, distance = assign(points, segments((2, 8, 1), (3.5, 6.5, 0), (3.5, 6.5, 3)), NUM_CLASSES)
    assert classes.tolist() == [[1, 0, 0, 1]]
    assert distance.tolist() == [[1.5, 1.5]]


def test_focal_loss_against_its_formula() -> None:
    logits = torch.linspace(-6, 6, 13, dtype=torch.float64)
    for truth in (0.0, 1.0):
        losses = focal_loss(logits, torch.full_like(logits, truth))
        for logit, loss in zip(logits.tolist(), losses.tolist(), strict=True):
            p = 1 / (1 + math.exp(-logit))
            expected = -0.25 * (1 - p) ** 2 * math.log(p) if truth else -0.75 * p**2 * math.log(1 - p)
            assert loss == pytest.approx(expected, rel=1e-9)


def test_focal_loss_of_sure_points_is_finite_with_its_gradient() -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    losses = focal_loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    losses.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert losses.tolist() == pytest.approx([0, 0, 50, 150])


def test_diou_against_its_definition() -> None:
    distance = torch.rand(50, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 9
    distance[0, 1] = distance[0, 0]
    distance[1, 0] = 0.0  # a prediction of no length
    losses = diou_loss(distance[:, 0], distance[:, 1])
    for ((a0, a1), (b0, b1)), loss in zip(distance.tolist(), losses.tolist(), strict=True):
        (s, e), (s_true, e_true) = (-a0, a1), (-b0, b1)
        inter = max(0.0, min(e, e_true) - max(s, s_true))
        union = (e - s) + (e_true - s_true) - inter
        hull = max(e, e_true) - min(s, s_true)
        between = ((s + e) - (s_true + e_true)) / 2
        assert loss == pytest.approx(1 - inter / union + (between / hull) ** 2, abs=1e-12)
    assert losses[0] == 0
