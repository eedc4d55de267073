"""Overlap of boxes, and non-maximum suppression: which of the boxes around one thing stays."""

from __future__ import annotations

import numpy as np


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (A, B) float64 of boxes (A, 4) and (B, 4), x1 y1 x2 y2; 0 where neither has an area."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # (A, B, 2)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=2)  # (A, B)
    union = _area(a)[:, None] + _area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def nms(boxes: np.ndarray, scores: np.ndarray, *, iou: float, keep: int | None = None) -> np.ndarray:
    """The rows (M,) int64 of `boxes` (N, 4) that stay, best score (N,) first, at most `keep`.

    Greedy: the best box stays, and those that overlap with it by more than `iou` go; then the best of the others.
    Of equal scores the lower row comes first.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    overlaps = pairwise_iou(boxes, boxes) > iou  # (N, N)
    gone = np.zeros(len(order), dtype=bool)
    kept: list[int] = []
    for row in order:
        if len(kept) == keep:
            break
        if not gone[row]:
            kept.append(int(row))
            gone |= overlaps[row]
    return np.asarray(kept, dtype=np.int64)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
