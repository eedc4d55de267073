"""The LSTM head: what it computes, and what padding can't touch."""

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads import build
from pipeline.heads.lstm import LSTMClassifier
from schemas.config import LSTMHead

Output = Literal["many-to-one", "many-to-many"]
OUTPUTS: tuple[Output, ...] = ("many-to-one", "many-to-many")
LENGTHS = (5, 1, 3)  # of N=3 videos, T=5


def make(output: Output, **settings: Any) -> LSTMClassifier:
    values = {"hidden": 6, "layers": 2} | settings
    head = build(LSTMHead(kind="lstm", features=("c3d",), output=output, **values), blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, LSTMClassifier)
    return head


def batch() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]  # (N, T)
    return x * mask[:, :, None], mask, torch.tensor([0, 2, 1])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("filler", [1e9, float("nan"), float("inf")])
def test_padding_contents_change_nothing_to_the_last_bit(output: Output, filler: float) -> None:
    head, (x, mask, labels) = make(output), batch()
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


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_padded_batch_gives_what_each_video_gives_alone(output: Output) -> None:
    head, (x, mask, labels) = make(output), batch()
    losses = head.loss(head(x, mask), labels, mask)
    probabilities = head.decode(head(x, mask), mask)
    for n, length in enumerate(LENGTHS):
        alone, whole = x[n : n + 1, :length], torch.ones(1, length, dtype=torch.bool)
        scores = head(alone, whole)
        torch.testing.assert_close(head.loss(scores, labels[n : n + 1], whole)[0], losses[n])
        torch.testing.assert_close(head.decode(scores, whole)[0], probabilities[n])


def test_many_to_one_classifies_the_state_after_the_last_clip() -> None:
    head, (x, mask, labels) = make("many-to-one", layers=1), batch()
    scores = head(x, mask)
    assert scores.shape == (3, 3)
    states, _ = head.layers[0](x)
    for n, length in enumerate(LENGTHS):
        torch.testing.assert_close(scores[n], head.classify(states[n, length - 1]))
    torch.testing.assert_close(head.decode(scores, mask), F.softmax(scores, dim=1))
    torch.testing.assert_close(head.loss(scores, labels, mask)[1], -F.log_softmax(scores[1], dim=0)[2])


def test_many_to_many_scores_each_step_and_averages_the_softmax() -> None:
    head, (x, mask, labels) = make("many-to-many"), batch()
    scores = head(x, mask)
    assert scores.shape == (3, 5, 3)
    by_hand = torch.stack([F.softmax(scores[n, :length], dim=1).mean(dim=0) for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(head.decode(scores, mask), by_hand)
    losses = head.loss(scores, labels, mask)
    for n, length in enumerate(LENGTHS):
        steps = -F.log_softmax(scores[n, :length], dim=1)[:, labels[n]]
        torch.testing.assert_close(losses[n], steps.mean())


def test_a_step_sees_the_past_only() -> None:
    head, (x, mask, _) = make("many-to-many"), batch()
    later = x.clone()
    later[0, 3:] += 1
    before, after = head(x, mask)[0], head(later, mask)[0]
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


def test_dropout_comes_from_the_noise_alone() -> None:
    head, (x, mask, _) = make("many-to-one", dropout=0.5), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(2))
    head.train()
    assert torch.equal(head(x, mask), head(x, mask))  # no noise, no dropout, even in training mode
    assert torch.equal(head(x, mask, noise), head(x, mask, noise))
    assert not torch.allclose(head(x, mask, noise), head(x, mask))
    # a video's mask goes with its row: any part of a batch drops the same units
    torch.testing.assert_close(head(x[1:], mask[1:], noise[1:]), head(x, mask, noise)[1:])
    assert make("many-to-one", dropout=0).num_noise == 0


def test_dropout_keeps_the_expected_activation() -> None:
    head = make("many-to-one", layers=1, hidden=50, dropout=0.25)
    h = torch.ones(400, 1, head.hidden)
    dropped = head._drop(h, torch.rand(400, head.num_noise, generator=torch.Generator().manual_seed(3)), 0)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)


def test_forget_gates_start_open() -> None:
    head = make("many-to-one")
    for layer in head.layers:
        bias = layer.get_parameter("bias_ih_l0").chunk(4)
        assert (bias[1] == 1).all()
        assert not (bias[0] == 1).any()
