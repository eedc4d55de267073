"""Boxes in shares of the video's frame, and in shares of the part of it that a map covers: its view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_INSIDE = 0.1  # share of a box's area that a view must show of it

Boxes = NDArray[np.float64]  # (N, 4) x1 y1 x2 y2


def into_view(boxes: Boxes, view: Boxes) -> tuple[Boxes, NDArray[np.int64]]:
    """Boxes (N, 4) of the frame as the view (4,), a box of the frame, has them: clipped to it, in shares of it.

    Gives the boxes (M, 4) of which the view shows MIN_INSIDE or more, and which rows (M,) these are.
    """
    low, high = np.maximum(boxes[:, :2], view[:2]), np.minimum(boxes[:, 2:], view[2:])
    inside = np.clip(high - low, 0, None).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    rows = np.flatnonzero((inside > 0) & (inside >= MIN_INSIDE * area))
    origin, side = np.tile(view[:2], 2), np.tile(view[2:] - view[:2], 2)
    return (np.concatenate([low, high], axis=1)[rows] - origin) / side, rows


def out_of_view(boxes: Boxes, view: Boxes) -> Boxes:
    """Boxes (N, 4) in shares of the view, in shares of the frame."""
    origin, side = np.tile(view[:2], 2), np.tile(view[2:] - view[:2], 2)
    return boxes * side + origin
