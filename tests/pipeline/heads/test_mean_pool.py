"""The mean-pool head: two layers on the mean, blind to order and to padding."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads import build
from pipeline.heads.mean_pool import MeanPoolClassifier
from schemas.heads import MeanPoolHead

LENGTHS = (3, 1)


def make(**settings: Any) -> MeanPoolClassifier:
    section = MeanPoolHead(kind="mean_pool", features=("c3d",), hidden=6, **settings)
    head = build(section, blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, MeanPoolClassifier)
    return head


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    return x, torch.arange(3) < torch.tensor(LENGTHS)[:, None]


def test_it_classifies_the_mean_over_the_clips() -> None:
    head, (x, mask) = make(), batch()
    means = torch.stack([x[n, :length].mean(dim=0) for n, length in enumerate(LENGTHS)])
    by_hand = head.classify(head.hide(means).clamp_min(0))
    scores = head(x, mask)
    torch.testing.assert_close(scores, by_hand)
    torch.testing.assert_close(head.decode(scores, mask), F.softmax(by_hand, dim=1))


@pytest.mark.parametrize("filler", [1e9, float("nan"), float("inf")])
def test_padding_contents_change_nothing_to_the_last_bit(filler: float) -> None:
    head, (x, mask) = make(), batch()
    outcomes = []
    for inputs in (x, torch.where(mask[:, :, None], x, filler)):
        head.zero_grad()
        losses = head.loss(head(inputs, mask), torch.tensor([0, 1]), mask)
        losses.sum().backward()
        outcomes.append((losses.detach(), *(p.grad for p in head.parameters() if p.grad is not None)))
    for clean, dirty in zip(*outcomes, strict=True):
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, dirty)


def test_dropout_comes_from_the_noise_alone() -> None:
    head, (x, mask) = make(), batch()
    noise = torch.rand(2, head.num_noise, generator=torch.Generator().manual_seed(2))
    head.train()
    assert torch.equal(head(x, mask), head(x, mask))  # no noise, no dropout, even in training mode
    assert not torch.allclose(head(x, mask, noise), head(x, mask))
    torch.testing.assert_close(head(x[1:], mask[1:], noise[1:]), head(x, mask, noise)[1:])
    assert make(dropout=0).num_noise == 0


def test_several_labels_a_video() -> None:
    head, (x, mask) = make(labels="multi"), batch()
    scores, targets = head(x, mask), torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(head.decode(scores, mask), torch.sigmoid(scores))
    torch.testing.assert_close(
        head.loss(scores, targets, mask)[1], F.binary_cross_entropy_with_logits(scores[1], targets[1])
    )
