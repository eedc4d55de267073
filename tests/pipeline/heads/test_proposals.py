"""Boxes learned from maps: which cell answers for which box, what a wrong answer costs, and what is proposed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pipeline.heads.proposals import Dense, ProposalHead, assign, cell_centers, overlap, propose

HEIGHT, WIDTH = 5, 8


def random_boxes(num: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand(num, 2, 2, generator=generator)
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def overlap_by_hand(a: list[float], b: list[float]) -> tuple[float, float]:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union, shared / union - (hull - union) / hull


def assign_by_hand(boxes: list[list[float]], height: int, width: int) -> list[int]:
    owners = []
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    nearest = []
    for x1, y1, x2, y2 in boxes:
        away = {
            (i, j): math.hypot((j + 0.5) - (x1 + x2) / 2 * width, (i + 0.5) - (y1 + y2) / 2 * height)
            for i in range(height)
            for j in range(width)
        }
        nearest.append(min(away, key=lambda cell: away[cell]))
    for i in range(height):
        for j in range(width):
            x, y = (j + 0.5) / width, (i + 0.5) / height
            claims = []
            for g, (x1, y1, x2, y2) in enumerate(boxes):
                inside = abs(x - (x1 + x2) / 2) <= (x2 - x1) / 4 and abs(y - (y1 + y2) / 2) <= (y2 - y1) / 4
                if nearest[g] == (i, j) or inside:
                    claims.append((nearest[g] != (i, j), areas[g], g))
            owners.append(min(claims)[2] if claims else -1)
    return owners


def test_cells_are_counted_row_by_row() -> None:
    centers = cell_centers(2, 4)
    assert centers.tolist() == [[x, y] for y in (0.25, 0.75) for x in (0.125, 0.375, 0.625, 0.875)]


def test_cells_answer_for_boxes_as_the_rule_says() -> None:
    for seed in range(30):
        boxes = random_boxes(seed % 6, torch.Generator().manual_seed(seed)).double()
        assert assign(boxes, HEIGHT, WIDTH).tolist() == assign_by_hand(boxes.tolist(), HEIGHT, WIDTH)


def test_a_small_box_has_a_cell_and_the_nearest_cell_is_its_own() -> None:
    tiny = torch.tensor([[0.51, 0.51, 0.52, 0.52]])
    assert assign(tiny, 2, 2).tolist() == [-1, -1, -1, 0]
    corner = torch.tensor([[0.9, 0.9, 1.0, 1.0]])
    assert assign(corner, 2, 2).tolist() == [-1, -1, -1, 0]
    large, small = [0.0, 0.0, 1.0, 1.0], [0.1, 0.1, 0.95, 0.95]  # on 3×3 both have the middle cell as the nearest
    assert assign(torch.tensor([large, small]), 3, 3)[4] == 1
    aside = [0.2, 0.2, 0.7, 0.3]  # its middle half holds (0, 1) only, and that is its nearest
    assert assign(torch.tensor([large, aside]), 3, 3).tolist() == [-1, 1, -1, -1, 0, -1, -1, -1, -1]


def test_overlap_is_that_of_each_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = random_boxes(50, generator).double(), random_boxes(50, generator).double()
    by_hand = [overlap_by_hand(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(overlap(first, second), dim=1), expected, rtol=0, atol=1e-12)


def test_overlap_of_boxes_without_an_area_has_finite_gradients() -> None:
    point = torch.zeros(1, 4, requires_grad=True)
    iou, giou = overlap(point, torch.zeros(1, 4))
    (iou + giou).sum().backward()
    assert torch.isfinite(torch.cat([iou, giou])).all()
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_disjoint_boxes_are_drawn_together() -> None:
    box = torch.tensor([[0.0, 0.0, 0.2, 0.2]], requires_grad=True)
    _, giou = overlap(box, torch.tensor([[0.6, 0.6, 0.9, 0.9]]))
    (1 - giou).sum().backward()
    assert box.grad is not None
    assert (box.grad[0, 2:] < 0).all()  # its lower right corner goes towards the other


def head_and_maps(num: int = 3) -> tuple[ProposalHead, Tensor]:
    torch.manual_seed(0)
    head = ProposalHead(6, 8)
    torch.nn.init.normal_(head.reach.weight, std=0.3)
    torch.nn.init.normal_(head.objectness.weight, std=0.3)
    return head, torch.randn(num, 6, HEIGHT, WIDTH)


def test_before_training_boxes_are_around_their_cells_and_hardly_any_counts() -> None:
    head = ProposalHead(6, 8)
    dense = head(torch.randn(2, 6, HEIGHT, WIDTH))
    assert dense.objectness.shape == (2, HEIGHT * WIDTH)
    assert dense.box.shape == (2, HEIGHT * WIDTH, 4)
    center = (dense.box[..., :2] + dense.box[..., 2:]) / 2
    torch.testing.assert_close(center[0], cell_centers(HEIGHT, WIDTH), rtol=0, atol=0.03)
    torch.testing.assert_close(dense.objectness.sigmoid().mean(), torch.tensor(0.05), rtol=0.3, atol=0)


def test_the_loss_is_that_of_a_plain_loop_and_each_keyframes_own() -> None:
    head, maps = head_and_maps()
    truth = [random_boxes(num, torch.Generator().manual_seed(num)) for num in (2, 0, 4)]
    losses = head.loss(head(maps), truth, (HEIGHT, WIDTH))
    for n, boxes in enumerate(truth):
        dense = head(maps[n : n + 1])
        owners = assign_by_hand(boxes.double().tolist(), HEIGHT, WIDTH)
        total = 0.0
        for cell, owner in enumerate(owners):
            score = torch.sigmoid(dense.objectness[0, cell]).item()
            quality = 0.0
            if owner >= 0:
                quality, giou = overlap_by_hand(dense.box[0, cell].tolist(), boxes[owner].tolist())
                total += 1 - giou
            entropy = -quality * math.log(score) - (1 - quality) * math.log(1 - score)
            total += (quality - score) ** 2 * entropy
        positives = sum(owner >= 0 for owner in owners)
        assert losses[n].item() == pytest.approx(total / max(positives, 1), rel=1e-4)


def test_the_quality_is_no_way_around_the_box() -> None:
    """The IoU that objectness learns is a target: no gradient makes boxes worse to fit a low objectness."""
    head, maps = head_and_maps(1)
    dense = head(maps)
    box = dense.box.detach().requires_grad_()
    truth = [torch.tensor([[0.2, 0.2, 0.8, 0.9]])]
    gradients = []
    for shift in (0.0, 3.0):
        loss = head.loss(Dense(dense.objectness.detach() + shift, box), truth, (HEIGHT, WIDTH))
        gradients.append(torch.autograd.grad(loss.sum(), box)[0])
    assert torch.equal(*gradients)


def test_the_best_boxes_are_proposed_clipped_and_suppressed() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    box = torch.tensor([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1.5, 1.2], [0.5, 0.5, 1, 0.9], [-1, 0, 0.4, 0.4]]])
    (boxes, scores), *others = propose(Dense(logits, box), nms_iou=0.5, max_boxes=3)
    assert not others
    torch.testing.assert_close(boxes, torch.tensor([[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]]))  # the others overlap more
    torch.testing.assert_close(scores, torch.tensor([2.0, 0.0]).sigmoid())
    (boxes, _), *_ = propose(Dense(logits, box), nms_iou=0.5, max_boxes=1)
    assert len(boxes) == 1
