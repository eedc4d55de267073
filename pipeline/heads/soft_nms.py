"""Soft non-maximum suppression in one dimension (Bodla et al., "Soft-NMS: Improving Object Detection With One Line").

The best detection is taken, what overlaps it loses score, and so on with what is left:

    gaussian: score · exp(−tiou² / sigma)                         the usual one for segments, with sigma 0.5
    linear:   score · (1 − tiou) where tiou ≥ the threshold
    hard:     removed            where tiou ≥ the threshold       plain non-maximum suppression
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["gaussian", "linear", "hard"]


def soft_nms(
    span: NDArray[np.floating],
    score: NDArray[np.floating],
    label: NDArray[np.integer],
    *,
    method: Method = "gaussian",
    sigma: float = 0.5,
    tiou: float = 0.5,
    agnostic: bool = False,
    min_score: float = 0.001,
    keep: int = 200,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which of M detections of one video remain, best first, and their new scores.

    span: (M, 2) start and end in any unit of time; score: (M,) ≥ 0; label: (M,). Arithmetic is in float64.
    sigma: of gaussian alone. tiou: the threshold of linear and hard. agnostic: detections of other classes also lose
    score. min_score: what has less, from the start or from losing it, is gone. keep: at most so many remain.
    Returns indices (R,) into the M, and scores (R,). Of equal scores the one that comes first in the input goes first.
    """
    start, end = np.asarray(span, np.float64).reshape(-1, 2).T  # (M,) each
    length = end - start
    left = np.array(score, np.float64)  # (M,) the scores; -1 once taken or gone
    left[~(left >= min_score)] = -1.0  # nan goes, too
    kept: list[int] = []
    scores: list[float] = []
    while len(kept) < min(keep, len(left)):
        best = int(left.argmax())  # of equals the first
        if left[best] < 0:
            break
        kept.append(best)
        scores.append(float(left[best]))
        left[best] = -1.0
        inter = np.minimum(end, end[best]) - np.maximum(start, start[best])  # (M,) negative where apart
        rivals = (inter > 0) & (left >= 0)
        if not agnostic:
            rivals &= label == label[best]
        at = rivals.nonzero()[0]  # (R,) few: what follows is cheap
        overlap = inter[at] / (length[at] + length[best] - inter[at])  # (R,) > 0
        left[at] *= _share_left(overlap, method=method, sigma=sigma, tiou=tiou)
        left[at[left[at] < min_score]] = -1.0
        if method == "hard":
            left[at[overlap >= tiou]] = -1.0  # also where min_score is 0
    return np.array(kept, np.int64), np.array(scores, np.float64)


def _share_left(overlap: NDArray[np.float64], *, method: Method, sigma: float, tiou: float) -> NDArray[np.float64]:
    """The factors by which scores shrink, for overlaps (R,)."""
    if method == "gaussian":
        return np.exp(-(overlap**2) / sigma)
    if method == "linear":
        return np.where(overlap >= tiou, 1.0 - overlap, 1.0)
    return np.where(overlap >= tiou, 0.0, 1.0)
