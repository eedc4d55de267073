"""Non-maximum suppression: which of the boxes around one thing stays."""

from __future__ import annotations

import numpy as np

from pipeline.boxes import iou_matrix


def nms(boxes: np.ndarray, scores: np.ndarray, *, iou: float, keep: int | None = None) -> np.ndarray:
    """The rows (M,) int64 of `boxes` (N, 4) that stay, best score (N,) first, at most `keep`.

    Greedy: the best box stays, and those that overlap with it by more than `iou` go; then the best of the others.
    Of equal scores the lower row comes first.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    overlaps = iou_matrix(boxes, boxes) > iou  # (N, N)
    gone = np.zeros(len(order), dtype=bool)
    kept: list[int] = []
    for row in order:
        if len(kept) == keep:
            break
        if not gone[row]:
            kept.append(int(row))
            gone |= overlaps[row]
    return np.asarray(kept, dtype=np.int64)
