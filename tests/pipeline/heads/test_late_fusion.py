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


def weights_of(head: LateFusion) -> nn.Parameter:
    assert head.fuse is not None
    return head.fuse.weight


def top1(answers: Tensor, classes: Tensor) -> float:
    return (answers.argmax(dim=-1) == classes).float().mean().item()


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


def test_learned_fusion_starts_as_the_product_rule() -> None:
    head, (x, mask) = make(fusion="learned"), batch()
    first, second = (one.decode(one(f, mask), mask) for one, f, _ in branches_of(head, x, torch.zeros(3, 12)))
    product = first * second
    torch.testing.assert_close(head.decode(head(x, mask), mask), product / product.sum(dim=1, keepdim=True))


def test_learned_fusion_of_several_labels_starts_as_the_sum_of_log_odds() -> None:
    head, (x, mask) = make(labels="multi", fusion="learned"), batch()
    first, second = (one.decode(one(f, mask), mask) for one, f, _ in branches_of(head, x, torch.zeros(3, 12)))
    odds = first / (1 - first) * second / (1 - second)
    torch.testing.assert_close(head.decode(head(x, mask), mask), odds / (1 + odds))


def test_weights_of_several_labels_are_of_each_stream_and_class() -> None:
    head, (x, mask) = make(labels="multi", fusion="learned"), batch()
    with torch.no_grad():
        weights_of(head).copy_(torch.tensor([[1.0, 0, 1], [0, 1, 0]]))  # class 1 is up to the second stream
    first, second = (one.decode(one(f, mask), mask) for one, f, _ in branches_of(head, x, torch.zeros(3, 12)))
    by_hand = torch.stack([first[:, 0], second[:, 1], first[:, 2]], dim=1)
    torch.testing.assert_close(head.decode(head(x, mask), mask), by_hand)


def test_classes_of_which_one_is_right_share_the_weights_of_streams() -> None:
    head, (x, mask) = make(fusion="learned"), batch()
    bias = torch.tensor([0.5, -0.5, 0])
    assert head.fuse is not None
    with torch.no_grad():
        head.fuse.weight.copy_(torch.tensor([[2.0], [0.5]]))
        head.fuse.bias.copy_(bias)
    first, second = (one.decode(one(f, mask), mask) for one, f, _ in branches_of(head, x, torch.zeros(3, 12)))
    by_hand = first**2 * second**0.5 * bias.exp()
    torch.testing.assert_close(head.decode(head(x, mask), mask), by_hand / by_hand.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("labels", TARGETS)
def test_noise_gets_a_low_weight(labels: str) -> None:
    """The first stream knows much, the second is sure of anything; nothing but the fusion is trained."""
    head = make(labels=labels, fusion="learned")
    generator = torch.Generator().manual_seed(3)
    classes = torch.arange(300) % 3
    truth = F.one_hot(classes, 3).float()
    known = 4 * truth - 2 + torch.randn(300, 3, generator=generator)
    anything = 4 * torch.randn(300, 3, generator=generator)
    logits = torch.stack([known, anything])[:, :, None]  # (S, N, T, K)
    mask = torch.ones(300, 1, dtype=torch.bool)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(60):
        step(head, head.loss(logits, classes if labels == "single" else truth, mask), optimizer)
    known_weight, noise_weight = weights_of(head).detach()
    assert (known_weight > 0.8).all()
    assert (noise_weight.abs() < 0.1 * known_weight).all()


@pytest.mark.parametrize("seed", range(3))
def test_learned_beats_the_average_and_each_stream(seed: int) -> None:
    """One stream tells classes 0 1 from 2 3, another 0 2 from 1 3, neither always; the third is sure of anything."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(800) % 4
    bits = torch.stack([torch.arange(4) // 2, torch.arange(4) % 2])[:, None] - 0.5  # (2, 1, K)
    evidence = 3 * bits[:, 0, classes, None] + torch.randn(2, 800, 1, generator=generator)  # (2, N, 1)
    anything = 4 * torch.randn(1, 800, 4, generator=generator)
    logits = torch.cat([3 * evidence * bits, anything])[:, :, None]  # (S, N, T, K)
    mask = torch.ones(800, 1, dtype=torch.bool)
    section = LateFusionHead(kind="late_fusion", features=("rgb", "flow", "sound"), fusion="learned")
    head = build(section, blocks=(2, 2, 2), num_classes=4, seed=seed)
    assert isinstance(head, LateFusion)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(40):
        step(head, head.loss(logits[:, :400], classes[:400], mask[:400]), optimizer)
    scores = logits[:, 400:]  # of videos that nothing was trained on
    learned = head.decode(scores, mask[400:])
    head.fuse = None
    average = head.decode(scores, mask[400:])
    right = [top1(answer, classes[400:]) for answer in (learned, average, *scores[:, :, 0])]
    assert right[0] > 0.8
    assert right[0] > max(right[1:]) + 0.1


@pytest.mark.parametrize("labels", TARGETS)
def test_sure_and_wrong_branches_give_a_finite_loss(labels: str) -> None:
    head, targets = make(labels=labels, fusion="learned"), TARGETS[labels]
    wrong = 1 - (F.one_hot(targets, 3).float() if labels == "single" else targets)
    scores = (1e4 * wrong - 5e3).expand(2, 1, 3, 3).transpose(1, 2).clone().requires_grad_()  # (S, N, T, K)
    loss = head.loss(scores, targets, torch.ones(3, 1, dtype=torch.bool))
    loss.sum().backward()
    for values in (loss, scores.grad, weights_of(head).grad):
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
