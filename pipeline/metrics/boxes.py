"""IoU of boxes, row by row over any number of pairs, and which pairs are worth it.

Boxes are (…, 4) float64 x1 y1 x2 y2. Two conventions, both published: a box spans [x1, x2), and its width is x2 - x1
(AVA, COCO); or, `inclusive`, x2 is the last pixel and the width x2 - x1 + 1 (VOC's, JHMDB's and UCF101-24's code).
Each sum is taken in the order of the official code, so that an IoU beside a threshold falls on the same side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def iou_rows(first: Floats, second: Floats, *, inclusive: bool = False) -> Floats:
    """IoU (…) of boxes (…, 4) with boxes (…, 4) of the same or a broadcastable shape.

    0 where the boxes do not overlap, also where they only touch and where both have no area at all.
    """
    edge = 1.0 if inclusive else 0.0
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:] + edge, second[..., 2:] + edge)
    size = np.maximum(high - low, 0.0)
    overlap = size[..., 0] * size[..., 1]
    union = _area(first, edge) + _area(second, edge) - overlap
    return np.divide(overlap, union, out=np.zeros(union.shape), where=union != 0)


def iou_matrix(first: Floats, second: Floats, *, inclusive: bool = False) -> Floats:
    """IoU (N, M) of each of N boxes (N, 4) with each of M (M, 4)."""
    return iou_rows(first[:, None], second[None], inclusive=inclusive)


def pairs_of_same_key(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Indices (P,), (P,) of all pairs of rows of `first` (N,) and `second` (M,) that have the same key.

    In the order of `first`, and for each of its rows in the order of `second`.
    """
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    start = np.searchsorted(ordered, first, side="left")
    count = np.searchsorted(ordered, first, side="right") - start
    return np.repeat(np.arange(len(first)), count), order[expand(start, count)]


def expand(start: Ints, count: Ints) -> Ints:
    """start[0], start[0] + 1 … (count[0] of them), then start[1] …: the ranges behind one another."""
    before = np.cumsum(count) - count
    return np.repeat(start - before, count) + np.arange(count.sum())


def _area(boxes: Floats, edge: float) -> Floats:
    return (boxes[..., 2] - boxes[..., 0] + edge) * (boxes[..., 3] - boxes[..., 1] + edge)
