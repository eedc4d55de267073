"""Losses and probabilities against values worked out video by video."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads.objectives import Objective, mean_over_clips

LENGTHS = (4, 1, 3)  # of N=3 videos, T=4
MASK = torch.arange(4) < torch.tensor(LENGTHS)[:, None]  # (N, T)
CLASS = torch.tensor([1, 0, 4])  # (N,)
CLASSES = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])  # (N, K)


def random_scores(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def binary_cross_entropy(score: float, target: float) -> float:
    """By its definition."""
    probability = 1 / (1 + math.exp(-score))
    return -target * math.log(probability) - (1 - target) * math.log(1 - probability)


def test_single_of_whole_videos_is_softmax_cross_entropy() -> None:
    scores, objective = random_scores(3, 5), Objective("single")
    rows = zip(scores.tolist(), CLASS.tolist(), strict=True)
    expected = [-math.log(math.exp(row[k]) / sum(map(math.exp, row))) for row, k in rows]
    torch.testing.assert_close(objective.loss(scores, CLASS, MASK), torch.tensor(expected))
    torch.testing.assert_close(objective.decode(scores, MASK), F.softmax(scores, dim=1))


def test_multi_of_whole_videos_is_the_mean_over_classes_of_binary_cross_entropy() -> None:
    scores, objective = random_scores(3, 5), Objective("multi")
    losses = [
        sum(binary_cross_entropy(s, t) for s, t in zip(row, targets, strict=True)) / 5
        for row, targets in zip(scores.tolist(), CLASSES.tolist(), strict=True)
    ]
    torch.testing.assert_close(objective.loss(scores, CLASSES, MASK), torch.tensor(losses))
    torch.testing.assert_close(objective.decode(scores, MASK), 1 / (1 + (-scores).exp()))


@pytest.mark.parametrize(("labels", "targets"), [("single", CLASS), ("multi", CLASSES)])
def test_answers_of_clips_are_averaged_over_a_video(labels: str, targets: Tensor) -> None:
    scores, objective = random_scores(3, 4, 5), Objective(labels)  # type: ignore[arg-type]
    losses, answers = objective.loss(scores, targets, MASK), objective.decode(scores, MASK)
    for n, length in enumerate(LENGTHS):
        clips, same = scores[n, :length], targets[n].expand(length, *targets[n].shape)
        torch.testing.assert_close(losses[n], objective.loss(clips, same, MASK).mean())
        torch.testing.assert_close(answers[n], objective.decode(clips, MASK).mean(dim=0))


@pytest.mark.parametrize(("labels", "targets"), [("single", CLASS), ("multi", CLASSES)])
def test_scores_of_clips_are_averaged_before_anything_else(labels: str, targets: Tensor) -> None:
    scores, objective = random_scores(3, 4, 5), Objective(labels, average="scores")  # type: ignore[arg-type]
    means = torch.stack([scores[n, :length].mean(dim=0) for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(objective.loss(scores, targets, MASK), objective.loss(means, targets, MASK))
    torch.testing.assert_close(objective.decode(scores, MASK), objective.decode(means, MASK))


@pytest.mark.parametrize("average", ["scores", "answers"])
def test_dense_holds_each_clip_against_its_own_targets(average: str) -> None:
    scores, objective = random_scores(3, 4, 5), Objective("dense", average=average)  # type: ignore[arg-type]
    targets = (random_scores(3, 4, 5) > 0.5).float()
    losses, steps = objective.loss(scores, targets, MASK), objective.decode_steps(scores, MASK)
    for n, length in enumerate(LENGTHS):
        cells = zip(scores[n, :length].flatten().tolist(), targets[n, :length].flatten().tolist(), strict=True)
        torch.testing.assert_close(losses[n].item(), sum(binary_cross_entropy(*cell) for cell in cells) / (length * 5))
        torch.testing.assert_close(steps[n, :length], torch.sigmoid(scores[n, :length]))
        assert (steps[n, length:] == 0).all()


def test_what_dense_targets_hold_in_the_padding_changes_no_loss_and_no_gradient() -> None:
    targets = torch.ones(3, 4, 5)
    outcomes = []
    for filler in (0.0, float("nan")):
        scores = random_scores(3, 4, 5).requires_grad_()
        loss = Objective("dense").loss(scores, torch.where(MASK[:, :, None], targets, filler), MASK)
        loss.sum().backward()
        assert scores.grad is not None
        outcomes.append((loss.detach(), scores.grad))
    for clean, dirty in zip(*outcomes, strict=True):
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, dirty)


def test_large_scores_stay_finite() -> None:
    scores = torch.tensor([[1000.0, -1000.0]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert Objective("multi").loss(scores, torch.tensor([[0.0, 1.0]]), mask).tolist() == [1000.0]
    assert Objective("multi").loss(scores, torch.tensor([[1.0, 0.0]]), mask).tolist() == [0.0]


def test_scores_of_whole_videos_have_no_steps() -> None:
    with pytest.raises(AssertionError, match=r"scores of whole videos, \(3, 5\), say nothing about their clips"):
        Objective("multi").decode_steps(random_scores(3, 5), MASK)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (3, 4, 2, 2)])
def test_mean_over_clips_leaves_the_padding_out(shape: tuple[int, ...]) -> None:
    values = random_scores(*shape)
    values[~MASK] = float("nan")
    expected = torch.stack([values[n, :length].mean(dim=0) for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(mean_over_clips(values, MASK), expected)
