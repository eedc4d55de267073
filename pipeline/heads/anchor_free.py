"""Anchor-free detection in time: a point at every step of every level, which segments it answers for, and the losses.

Level l has a point at each 2^l-th step. A point answers for a segment when it lies inside of it and near its centre,
and when the farther of the segment's ends is as far away as this level is there for. (FCOS, Tian et al. 2019, in one
dimension, as in ActionFormer, Zhang et al. 2022.) A segment of a step or less may have no step inside; the step that
is nearest to its centre answers for it.

Legend: P points of all levels, M true segments of one video, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads.temporal import StepSegments

REACH = 4.0  # strides: the farthest end that a level answers for; the next level takes over there
CENTER = 1.5  # strides: how near to a segment's centre a point must be
SAME_LENGTH = 1e-3  # steps: segments whose lengths differ by no more are equally good answers for a point


@dataclass(frozen=True)
class Points:
    """The points of a sequence, level by level."""

    step: Tensor  # (P,) float32: where
    stride: Tensor  # (P,) float32: steps between the points of its level
    nearest: Tensor  # (P,) float32: the bounds of the distance to the farther end, in steps; both belong to the range
    farthest: Tensor  # (P,) float32


def make_points(num_steps: int, levels: int, *, device: torch.device | str = "cpu") -> Points:
    """All points over `num_steps` steps. The first level has no lower bound, the last no upper one."""
    columns = []
    for level in range(levels):
        stride = 2**level
        step = torch.arange(0, num_steps, stride, dtype=torch.float32, device=device)  # (P_l,)
        nearest = 0.0 if level == 0 else REACH * stride / 2
        farthest = torch.inf if level == levels - 1 else REACH * stride
        columns.append((step, *(torch.full_like(step, value) for value in (stride, nearest, farthest))))
    return Points(*(torch.cat(column) for column in zip(*columns, strict=True)))


def assign(points: Points, segments: StepSegments, num_classes: int) -> tuple[Tensor, Tensor]:
    """What each point should say: classes (P, K) float32 of 0 and 1, distances (P, 2) to start and end, in strides.

    Where several segments claim a point the shortest has it; of equally short ones it takes all the classes and the
    first one's ends. Distances of points without a class mean nothing.
    """
    if len(segments) == 0:
        return points.step.new_zeros(len(points.step), num_classes), points.step.new_zeros(len(points.step), 2)
    step, stride = points.step[:, None], points.stride[:, None]  # (P, 1)
    start, end = segments.span.unbind(dim=1)  # (M,)
    length = end - start  # (M,)
    distance = torch.stack([step - start, end - step], dim=-1)  # (P, M, 2)
    from_center = (step - (start + end) / 2).abs()  # (P, M)
    farther = distance.amax(dim=-1)  # (P, M)
    inside = (distance > 0).all(dim=-1) | ((length <= 1) & (stride == 1) & (from_center <= 0.5))  # (P, M)
    in_range = (farther >= points.nearest[:, None]) & (farther <= points.farthest[:, None])  # (P, M)
    claims = inside & in_range & (from_center < CENTER * stride)  # (P, M)
    shortest = torch.where(claims, length, torch.inf).amin(dim=1, keepdim=True)  # (P, 1)
    answers = claims & (length <= shortest + SAME_LENGTH)  # (P, M)
    classes = answers.to(torch.float32) @ F.one_hot(segments.label, num_classes).to(torch.float32)  # (P, K)
    first = answers.to(torch.uint8).argmax(dim=1)  # (P,)
    own = distance[torch.arange(len(first), device=first.device), first]  # (P, 2)
    return classes.clamp(max=1.0), own.clamp(min=0.0) / stride


def focal_loss(logits: Tensor, truth: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017) of each element, for truth of 0 and 1."""
    p = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = p + truth - 2 * p * truth  # 1 − p where truth is 1, p where it is 0
    return (alpha * truth + (1 - alpha) * (1 - truth)) * cross_entropy * miss**gamma


def diou_loss(distance: Tensor, truth: Tensor) -> Tensor:
    """1 − DIoU (Zheng et al. 2020) of segments around one point: (..., 2) distances to start and end ≥ 0 -> (...)."""
    inter = torch.minimum(distance, truth).sum(dim=-1)
    hull = torch.maximum(distance, truth).sum(dim=-1)  # as both hold the point, this is their union, too
    offset = ((distance - truth)[..., 1] - (distance - truth)[..., 0]) / 2  # between the centres
    return 1.0 - inter / hull + (offset / hull) ** 2
