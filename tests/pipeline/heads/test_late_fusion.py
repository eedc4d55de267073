"""Late fusion: branches that train as if apart, and what is made of their answers."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import SequenceHead, build
from pipeline.heads.late_fusion import LateFusion
from schemas.heads import LateFusionHead

Branch = Literal["linear", "mean_pool", "lstm", "gru"]
BRANCHES: tuple[Branch, ...] = ("linear", "mean_pool", "lstm", "gru")
BLOCKS = (4, 2)
LENGTHS = (5, 1, 3)
TARGETS: dict[str, Tensor] = {
    "single": torch.tensor([0, 2, 1]),
    "multi": torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 1, 0]]),
}


def make(branch: Branch = "linear", **settings: Any) -> LateFusion:
    section = LateFusionHead(kind="late_fusion", features=("rgb", "flow"), branch=branch, hidden=6, **settings)
    head = build(section, blocks=BLOCKS, num_classes=3, seed=1)
    assert isinstance(head, LateFusion)
    return head


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    return x, torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def branches_of(head: LateFusion, x: Tensor, noise: Tensor) -> Iterator[tuple[SequenceHead, Tensor, Tensor]]:
    """Each branch with its features and its noise."""
    for index, branch in enumerate(head.branches):
        assert isinstance(branch, SequenceHead)
        columns = slice(0, 4) if index == 0 else slice(4, 6)
        share = slice(index * branch.num_noise, (index + 1) * branch.num_noise)
        yield branch, x[:, :, columns], noise[:, share]


def step(head: nn.Module, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.sum().backward()
    optimizer.step()


@pytest.mark.parametrize("labels", TARGETS)
@pytest.mark.parametrize("fusion", ["average", "learned"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_branches_train_to_the_last_bit_as_if_apart(branch: Branch, fusion: str, labels: str) -> None:
    (x, mask), targets = batch(), TARGETS[labels]
    together, apart = (make(branch, fusion=fusion, labels=labels) for _ in range(2))
    noise = torch.rand(3, together.num_noise, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(together.parameters(), lr=0.1, foreach=False)
    for _ in range(3):
        step(together, together.loss(together(x, mask, noise), targets, mask), optimizer)
    for one, features, own in branches_of(apart, x, noise):
        optimizer = torch.optim.AdamW(one.parameters(), lr=0.1, foreach=False)
        for _ in range(3):
            step(one, one.loss(one(features, mask, own), targets, mask), optimizer)
    for fused, alone in zip(together.branches.parameters(), apart.branches.parameters(), strict=True):
        assert torch.equal(fused, alone)


@pytest.mark.parametrize("branch", BRANCHES)
def test_average_is_the_mean_of_the_branches_probabilities(branch: Branch) -> None:
    head, (x, mask) = make(branch), batch()
    alone = [one.decode(one(features, mask), mask) for one, features, _ in branches_of(head, x, torch.zeros(3, 12))]
    torch.testing.assert_close(head.decode(head(x, mask), mask), (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("labels", TARGETS)
def test_learned_weights_start_as_the_average(labels: str) -> None:
    average, learned, (x, mask) = make(labels=labels), make(labels=labels, fusion="learned"), batch()
    torch.testing.assert_close(learned.decode(learned(x, mask), mask), average.decode(average(x, mask), mask))


def test_learned_weights_are_of_each_stream_and_class() -> None:
    head, (x, mask) = make(fusion="learned"), batch()
    assert head.weigh is not None
    with torch.no_grad():
        head.weigh.copy_(torch.tensor([[100.0, 0, 0], [-100, 0, 0]]))  # class 0 is up to the first stream
    first, second = (one.decode(one(f, mask), mask) for one, f, _ in branches_of(head, x, torch.zeros(3, 12)))
    by_hand = torch.stack([first[:, 0], *(first + second)[:, 1:].T / 2], dim=1)
    torch.testing.assert_close(head.decode(head(x, mask), mask), by_hand / by_hand.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("labels", TARGETS)
def test_learned_weights_turn_to_the_stream_that_knows(labels: str) -> None:
    """The first stream holds the answer, the second is noise; nothing but the weights is trained."""
    head = make(labels=labels, fusion="learned")
    generator = torch.Generator().manual_seed(3)
    classes = torch.arange(60) % 3
    truth = F.one_hot(classes, 3).float()
    logits = torch.stack([8 * truth - 4, 4 * torch.randn(60, 3, generator=generator)])[:, :, None]  # (S, N, T, K)
    mask = torch.ones(60, 1, dtype=torch.bool)
    assert head.weigh is not None
    optimizer = torch.optim.AdamW([head.weigh], lr=0.1)
    for _ in range(60):
        step(head, head.loss(logits, classes if labels == "single" else truth, mask), optimizer)
    assert (F.softmax(head.weigh, dim=0)[0] > 0.9).all()


@pytest.mark.parametrize("labels", TARGETS)
def test_sure_and_wrong_branches_give_a_finite_loss(labels: str) -> None:
    head, targets = make(labels=labels, fusion="learned"), TARGETS[labels]
    wrong = 1 - (F.one_hot(targets, 3).float() if labels == "single" else targets)
    scores = (1e4 * wrong - 5e3).expand(2, 1, 3, 3).transpose(1, 2).clone().requires_grad_()  # (S, N, T, K)
    loss = head.loss(scores, targets, torch.ones(3, 1, dtype=torch.bool))
    loss.sum().backward()
    assert head.weigh is not None
    for values in (loss, scores.grad, head.weigh.grad):
        assert values is not None
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("branch", BRANCHES)
def test_padding_contents_change_nothing_to_the_last_bit(branch: Branch) -> None:
    head, (x, mask) = make(branch, fusion="learned"), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(1))
    clean, dirty = (
        head.loss(head(inputs, mask, noise), TARGETS["single"], mask)
        for inputs in (x, torch.where(mask[:, :, None], x, float("nan")))
    )
    assert torch.isfinite(clean).all()
    assert torch.equal(clean, dirty)
