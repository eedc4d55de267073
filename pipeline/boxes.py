"""IoU of boxes, row by row over any number of pairs.

Boxes are (…, 4) x1 y1 x2 y2. Two conventions, both published: a box spans [x1, x2), and its width is x2 - x1
(AVA, COCO); or, `inclusive`, x2 is the last pixel and the width x2 - x1 + 1 (VOC's, JHMDB's and UCF101-24's code).
Each sum is taken in the order of the benchmarks' code, so that an IoU beside a threshold falls on the same side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def iou_rows(
    first: NDArray[np.floating], second: NDArray[np.floating], *, inclusive: bool = False
) -> NDArray[np.float64]:
    """IoU (…) float64 of boxes (…, 4) with boxes (…, 4) of the same or a broadcastable shape.

    0 where the boxes do not overlap, also where they only touch and where both have no area at all.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    edge = 1.0 if inclusive else 0.0
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., 2:] + edge, other[..., 2:] + edge)
    size = np.maximum(high - low, 0.0)
    overlap = size[..., 0] * size[..., 1]
    union = _area(one, edge) + _area(other, edge) - overlap
    return np.divide(overlap, union, out=np.zeros(union.shape), where=union != 0)


def iou_matrix(
    first: NDArray[np.floating], second: NDArray[np.floating], *, inclusive: bool = False
) -> NDArray[np.float64]:
    """IoU (N, M) float64 of each of N boxes (N, 4) with each of M (M, 4)."""
    return iou_rows(first[:, None], second[None], inclusive=inclusive)


def _area(boxes: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    return (boxes[..., 2] - boxes[..., 0] + edge) * (boxes[..., 3] - boxes[..., 1] + edge)
