"""Both recurrent heads: what they compute, and what padding can't touch."""

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads import build
from pipeline.heads.recurrent import RecurrentClassifier
from schemas.heads import GRUHead, LSTMHead

Kind = Literal["lstm", "gru"]
Output = Literal["many-to-one", "many-to-many"]
KINDS: tuple[Kind, ...] = ("lstm", "gru")
OUTPUTS: tuple[Output, ...] = ("many-to-one", "many-to-many")
LENGTHS = (5, 1, 3)  # of N=3 videos, T=5


def make(kind: Kind, output: Output, **settings: Any) -> RecurrentClassifier:
    values: dict[str, Any] = {"features": ("c3d",), "hidden": 6, "layers": 2, "output": output} | settings
    section = LSTMHead(kind="lstm", **values) if kind == "lstm" else GRUHead(kind="gru", **values)
    head = build(section, blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, RecurrentClassifier)
    return head


def batch() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]  # (N, T)
    return x * mask[:, :, None], mask, torch.tensor([0, 2, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("filler", [1e9, float("nan"), float("inf")])
def test_padding_contents_change_nothing_to_the_last_bit(kind: Kind, output: Output, filler: float) -> None:
    head, (x, mask, labels) = make(kind, output), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(1))
    outcomes = []
    for inputs in (x, torch.where(mask[:, :, None], x, filler)):
        head.zero_grad()
        scores = head(inputs, mask, noise)
        losses = head.loss(scores, labels, mask)
        losses.sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])
        outcomes.append((losses.detach(), head.decode(scores, mask).detach(), gradients))
    for clean, dirty in zip(*outcomes, strict=True):
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_padded_batch_gives_what_each_video_gives_alone(kind: Kind, output: Output) -> None:
    head, (x, mask, labels) = make(kind, output), batch()
    losses = head.loss(head(x, mask), labels, mask)
    probabilities = head.decode(head(x, mask), mask)
    for n, length in enumerate(LENGTHS):
        alone, whole = x[n : n + 1, :length], torch.ones(1, length, dtype=torch.bool)
        scores = head(alone, whole)
        torch.testing.assert_close(head.loss(scores, labels[n : n + 1], whole)[0], losses[n])
        torch.testing.assert_close(head.decode(scores, whole)[0], probabilities[n])


@pytest.mark.parametrize("kind", KINDS)
def test_many_to_one_classifies_the_state_after_the_last_clip(kind: Kind) -> None:
    head, (x, mask, labels) = make(kind, "many-to-one", layers=1), batch()
    scores = head(x, mask)
    assert scores.shape == (3, 3)
    states, _ = head.layers[0](x)
    for n, length in enumerate(LENGTHS):
        torch.testing.assert_close(scores[n], head.classify(states[n, length - 1]))
    torch.testing.assert_close(head.decode(scores, mask), F.softmax(scores, dim=1))
    torch.testing.assert_close(head.loss(scores, labels, mask)[1], -F.log_softmax(scores[1], dim=0)[2])


@pytest.mark.parametrize("kind", KINDS)
def test_many_to_many_scores_each_step_and_averages_the_softmax(kind: Kind) -> None:
    head, (x, mask, labels) = make(kind, "many-to-many"), batch()
    scores = head(x, mask)
    assert scores.shape == (3, 5, 3)
    by_hand = torch.stack([F.softmax(scores[n, :length], dim=1).mean(dim=0) for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(head.decode(scores, mask), by_hand)
    losses = head.loss(scores, labels, mask)
    for n, length in enumerate(LENGTHS):
        steps = -F.log_softmax(scores[n, :length], dim=1)[:, labels[n]]
        torch.testing.assert_close(losses[n], steps.mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_sees_the_past_only(kind: Kind) -> None:
    head, (x, mask, _) = make(kind, "many-to-many"), batch()
    later = x.clone()
    later[0, 3:] += 1
    before, after = head(x, mask)[0], head(later, mask)[0]
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_comes_from_the_noise_alone(kind: Kind) -> None:
    head, (x, mask, _) = make(kind, "many-to-one", dropout=0.5), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(2))
    head.train()
    assert torch.equal(head(x, mask), head(x, mask))  # no noise, no dropout, even in training mode
    assert torch.equal(head(x, mask, noise), head(x, mask, noise))
    assert not torch.allclose(head(x, mask, noise), head(x, mask))
    # a video's mask goes with its row: any part of a batch drops the same units
    torch.testing.assert_close(head(x[1:], mask[1:], noise[1:]), head(x, mask, noise)[1:])
    assert make(kind, "many-to-one", dropout=0).num_noise == 0


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_clips_and_several_labels_of_a_video(kind: Kind) -> None:
    x, mask, _ = batch()
    dense = make(kind, "many-to-many", labels="dense")
    scores, targets = dense(x, mask), torch.ones(3, 5, 3)
    assert dense.decode_steps(scores, mask).shape == (3, 5, 3)
    torch.testing.assert_close(
        dense.loss(scores, targets, mask)[1], F.binary_cross_entropy_with_logits(scores[1, :1], targets[1, :1])
    )
    for output in OUTPUTS:
        multi = make(kind, output, labels="multi")
        assert multi.loss(multi(x, mask), torch.ones(3, 3), mask).shape == (3,)
        assert not torch.allclose(multi.decode(multi(x, mask), mask).sum(dim=1), torch.ones(3))  # no softmax
