"""The linear probe: clip scores averaged over a video, blind to order."""

import torch
import torch.nn.functional as F

from pipeline.heads import build
from pipeline.heads.linear import LinearProbe
from schemas.heads import LinearHead


def make() -> LinearProbe:
    head = build(LinearHead(kind="linear", features=("c3d",)), blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, LinearProbe)
    return head


def test_it_classifies_the_mean_over_the_clips() -> None:
    head = make()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    weight, bias = head.get_parameter("classify.weight"), head.get_parameter("classify.bias")
    by_hand = torch.stack([x[0].mean(dim=0), x[1, 0]]) @ weight.T + bias
    scores = head(x, mask)
    torch.testing.assert_close(head.decode(scores, mask), F.softmax(by_hand, dim=1))
    labels = torch.tensor([2, 0])
    torch.testing.assert_close(head.loss(scores, labels, mask), F.cross_entropy(by_hand, labels, reduction="none"))


def test_padding_contents_change_nothing_to_the_last_bit() -> None:
    head = make()
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    clean = head.decode(head(x, mask), mask)
    x[1, 1:] = float("nan")
    scores = head(x, mask)
    assert torch.equal(head.decode(scores, mask), clean)
    head.loss(scores, torch.tensor([0, 1]), mask).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_order_does_not_matter() -> None:
    head = make()
    x = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 5, dtype=torch.bool)
    forward, backward = (head.decode(head(clips, mask), mask) for clips in (x, x.flip(1)))
    torch.testing.assert_close(forward, backward)


def test_dense_labels_are_answered_clip_by_clip() -> None:
    head = build(LinearHead(kind="linear", features=("c3d",), labels="dense"), blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, LinearProbe)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    scores, targets = head(x, mask), torch.ones(2, 3, 3)
    torch.testing.assert_close(head.decode_steps(scores, mask)[0], torch.sigmoid(head.classify(x[0])))
    torch.testing.assert_close(
        head.loss(scores, targets, mask)[1],
        F.binary_cross_entropy_with_logits(head.classify(x[1, :1]), targets[1, :1]),
    )
