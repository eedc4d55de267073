"""Segment-of-interest pooling: a segment of any length becomes a fixed number of bins (RoI pooling in one dimension).

The rule: the feature of step t holds from t - 1/2 to t + 1/2 (step t is the instant of the clip's centre) and is zero
before the first step and after the last. A segment is cut into equal bins, and a bin is the mean of the feature over
its interval: the integral over its length, exact for ends at any place between steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soi_pool(features: Tensor, span: Tensor, *, bins: int, extent: float) -> Tensor:
    """Means (P, bins, C) float32 of features (T, C) over segments (P, 2), in steps, widened about their centres.

    `extent` is the pooled length over the segment's own: 2 adds half a segment on either side. Differentiable in
    the features; the segments are taken as constants. Segments must end after their start.
    """
    center = span.double().mean(dim=1)  # (P,)
    length = (span[:, 1] - span[:, 0]).double() * extent  # (P,)
    cuts = torch.linspace(-0.5, 0.5, bins + 1, dtype=torch.float64, device=span.device)  # (B + 1,)
    edges = center[:, None] + length[:, None] * cuts  # (P, B + 1)
    integral = _integral(features, edges.detach())  # (P, B + 1, C)
    return (integral.diff(dim=1) * (bins / length)[:, None, None].detach()).to(torch.float32)  # (P, B, C)


def _integral(features: Tensor, edges: Tensor) -> Tensor:
    """The integral (..., C) float64 of features (T, C) from before the first step to each of `edges` (...)."""
    # float64: differences of sums over thousands of steps would lose float32's digits
    sums = features.double().cumsum(dim=0)  # (T, C)
    sums = torch.cat([torch.zeros_like(sums[:1]), sums])  # (T + 1, C)
    place = (edges + 0.5).clamp(0, len(features))  # step t holds from t to t + 1 of these
    whole = place.floor().clamp(max=len(features) - 1).long().flatten()
    part = place.flatten() - whole  # in [0, 1]
    at = torch.lerp(sums.index_select(0, whole), sums.index_select(0, whole + 1), part[:, None])
    return at.unflatten(0, edges.shape)
