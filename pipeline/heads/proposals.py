"""Boxes of actors, learned from maps: a dense head without anchors, as in FCOS (Tian et al.), on one scale.

Each cell of a map says how far to the left, above, to the right and below it the actor's box reaches, and how well
that box fits (its IoU with the truth: the quality focal loss of Li et al., "Generalized Focal Loss"). A cell answers
for one actor: the middle of two that overlap is the smaller one's. Coordinates are shares of the view, [0, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads.box_nms import nms

PRIOR = 0.05  # objectness before any training: few cells hold an actor
REACH = 0.2  # of a box before any training, from its cell to each side
MOST_GROWTH = 2.0  # exp of it times REACH is farther than any side of the view
MIDDLE = 0.5  # cells in this share of a box's width and height answer for it
PRE_NMS = 200  # cells of a keyframe that enter suppression


class Dense(NamedTuple):
    """What each cell says: objectness (N, H W) logits, box (N, H W, 4) x1 y1 x2 y2 around the cell's centre."""

    objectness: Tensor
    box: Tensor


class ProposalHead(nn.Module):
    """Three convolutions of growing dilation, so that a cell sees 7 cells in each direction, then two of 1×1.

    Legend: N keyframes, C channels, H×W cells, G true boxes of one keyframe.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        sizes = [channels, hidden, hidden]
        self.trunk = nn.Sequential(*[conv_block(size, hidden, dilation=2**index) for index, size in enumerate(sizes)])
        self.objectness = nn.Conv2d(hidden, 1, 1)
        self.reach = nn.Conv2d(hidden, 4, 1)
        for layer, bias in ((self.objectness, math.log(PRIOR / (1 - PRIOR))), (self.reach, 0.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.get_parameter("bias"), bias)

    def forward(self, maps: Tensor) -> Dense:
        """What each cell of maps (N, C, H, W) says."""
        h = self.trunk(maps)  # (N, hidden, H, W)
        objectness = self.objectness(h).flatten(1)  # (N, H W)
        reach = REACH * self.reach(h).clamp(max=MOST_GROWTH).exp()  # (N, 4, H, W) left, up, right, down
        reach = reach.flatten(2).transpose(1, 2)  # (N, H W, 4)
        centers = cell_centers(*maps.shape[-2:], device=maps.device).to(reach.dtype)  # (H W, 2)
        box = torch.cat([centers - reach[..., :2], centers + reach[..., 2:]], dim=-1)  # (N, H W, 4)
        return Dense(objectness, box)

    def loss(self, dense: Dense, truth: list[Tensor], shape: tuple[int, int]) -> Tensor:
        """The loss (N,) of maps of `shape` H×W, given each keyframe's true boxes (G, 4).

        Per keyframe: the quality focal loss over all cells and 1 - GIoU over those that answer for a box, both divided
        by the number of the latter.
        """
        losses = []
        for objectness, box, boxes in zip(dense.objectness, dense.box, truth, strict=True):
            owner = assign(boxes, *shape)  # (H W,)
            mine = owner >= 0
            iou, giou = overlap(box[mine], boxes[owner[mine]])  # (positives,)
            quality = torch.zeros_like(objectness).masked_scatter(mine, iou.detach())  # (H W,)
            error = (quality - objectness.sigmoid()).square()
            focal = error * F.binary_cross_entropy_with_logits(objectness, quality, reduction="none")
            losses.append((focal.sum() + (1 - giou).sum()) / mine.sum().clamp(min=1))
        return torch.stack(losses)


def conv_block(channels: int, hidden: int, *, dilation: int = 1) -> nn.Sequential:
    """3×3 convolution, normalisation over one keyframe's map (never over the batch), ReLU."""
    conv = nn.Conv2d(channels, hidden, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(groups_of(hidden), hidden), nn.ReLU())


def groups_of(channels: int) -> int:
    """The number of groups of a group normalisation: 32, or the most of 16, 8, 4, 2, 1 that divides `channels`."""
    return next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0)


@torch.no_grad()
def propose(dense: Dense, *, nms_iou: float, max_boxes: int) -> list[tuple[Tensor, Tensor]]:
    """Per keyframe the best boxes (B, 4), clipped to the view, with their scores (B,), best first; B >= 1."""
    found = []
    for objectness, box in zip(dense.objectness.float().sigmoid(), dense.box.float().clamp(0, 1), strict=True):
        top = torch.argsort(objectness, descending=True, stable=True)[:PRE_NMS]
        boxes, scores = box[top], objectness[top]
        kept = nms(boxes.cpu().numpy(), scores.cpu().numpy(), iou=nms_iou, keep=max_boxes)
        rows = torch.from_numpy(kept).to(boxes.device)
        found.append((boxes[rows], scores[rows]))
    return found


def assign(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which of `boxes` (G, 4) each cell (H W,) int64 answers for, -1 for none.

    A cell answers for a box when its centre lies in the box's middle half, or is the nearest to the box's centre: so
    every box has a cell unless a smaller one has the same nearest. The nearest cell goes first; then the smaller box,
    then the lower row.
    """
    centers = cell_centers(height, width, device=boxes.device).to(boxes.dtype)  # (H W, 2)
    if len(boxes) == 0:
        return torch.full((height * width,), -1, device=boxes.device)
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]  # (G, 2)
    away = (centers[:, None] - middle).abs()  # (H W, G, 2)
    inside = (away <= side * MIDDLE / 2).all(dim=2)  # (H W, G)
    size = boxes.new_tensor([width, height])
    nearest = (middle * size).floor().clamp(min=0).minimum(size - 1)  # (G, 2) column, row
    cell = (nearest[:, 1] * width + nearest[:, 0]).long()  # (G,)
    is_nearest = torch.arange(height * width, device=boxes.device)[:, None] == cell  # (H W, G)
    rank = torch.argsort(torch.argsort(side.prod(dim=1), stable=True))  # (G,) 0: the smallest
    cost = rank - is_nearest.long() * len(boxes)  # (H W, G)
    cost = torch.where(inside | is_nearest, cost, len(boxes))
    best, owner = cost.min(dim=1)
    return torch.where(best < len(boxes), owner, -1)


def cell_centers(height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """The centres (H W, 2) of a map's cells, x y in shares of the view, row by row."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU (B,) and generalised IoU (B,) (Rezatofighi et al.) of boxes (B, 4) pair by pair; for a loss: never nan."""
    tiny = torch.finfo(first.dtype).tiny
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    hull = torch.maximum(first[:, 2:], second[:, 2:]) - torch.minimum(first[:, :2], second[:, :2])
    hull_area = hull.prod(dim=1)
    iou = intersection / union.clamp(min=tiny)
    return iou, iou - (hull_area - union) / hull_area.clamp(min=tiny)
