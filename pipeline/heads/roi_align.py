"""RoIAlign (He et al., "Mask R-CNN") by the `aligned` rule of detectron2, torchvision and mmcv.

A box is cut into P×P bins, each bin into G×G equal parts, the map is read bilinearly at the middle of each part, and a
bin is the mean of its readings. Coordinates are continuous: cell j of a map covers [j, j + 1) and is read in full at
j + 0.5. A reading within one cell outside of the map's outermost cell centres takes the border's value; farther out it
is 0. G is `sampling_ratio`, or, where that is 0, ceil(side / P) of each box's own width and height, in cells.

The bilinear weights of a reading are a product of one factor for y and one for x, and so are the means over a grid:
the whole rule is two small matrix products, the rows of one holding the weights of H, the other's those of W.
"""

from __future__ import annotations

import torch
from torch import Tensor


def roi_align(
    maps: Tensor,
    boxes: Tensor,
    image: Tensor,
    *,
    size: int,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
) -> Tensor:
    """The boxes' contents (R, C, size, size) in maps (N, C, H, W); differentiable in the maps, not in the boxes.

    boxes (R, 4): x1 y1 x2 y2, in cells after multiplication by `spatial_scale`. image (R,) int64: whose map each box
    is cut from. A box of no width or height reads 0 where the ratio is adaptive, and a point or line where it is fixed.
    """
    num_maps, channels, height, width = maps.shape
    with torch.no_grad():
        scaled = boxes.to(maps.dtype) * spatial_scale - 0.5  # (R, 4) cell j is read in full at j
        along_x = _weights(scaled[:, 0], scaled[:, 2], width, size=size, sampling_ratio=sampling_ratio)  # (R, P, W)
        along_y = _weights(scaled[:, 1], scaled[:, 3], height, size=size, sampling_ratio=sampling_ratio)  # (R, P, H)
    pieces = [maps[:0, :, :1, :1].expand(-1, -1, size, size)]  # no boxes: nothing, but with a (zero) gradient
    order = torch.argsort(image, stable=True)
    counts = torch.bincount(image, minlength=num_maps).tolist()
    for one, rows in zip(maps.unbind(), order.split(counts), strict=True):
        if len(rows):
            columns = one.transpose(0, 1).reshape(height, channels * width)  # (H, C W)
            read_y = along_y[rows].reshape(-1, height) @ columns  # (R' P, C W)
            read_y = read_y.reshape(len(rows), size * channels, width)  # (R', P C, W)
            both = read_y @ along_x[rows].transpose(1, 2)  # (R', P C, P)
            pieces.append(both.reshape(len(rows), size, channels, size).transpose(1, 2))  # (R', C, P, P)
    return torch.cat(pieces)[torch.argsort(order)]


def _weights(start: Tensor, end: Tensor, length: int, *, size: int, sampling_ratio: int) -> Tensor:
    """How much each of `length` cells counts in each bin (R, P, length), for sides start to end (R,)."""
    side = (end - start)[:, None, None]  # (R, 1, 1)
    bin_side = side / size
    grid = torch.full_like(side, sampling_ratio) if sampling_ratio else torch.ceil(side / size).clamp(min=0)
    most = int(grid.max()) if len(grid) else 0
    bins = torch.arange(size, device=start.device, dtype=start.dtype)[:, None]  # (P, 1)
    part = torch.arange(most, device=start.device, dtype=start.dtype)  # (G,)
    at = start[:, None, None] + bins * bin_side + (part + 0.5) * bin_side / grid.clamp(min=1)  # (R, P, G)
    counts = (part < grid) & (at >= -1) & (at <= length)  # (R, P, G)
    at = at.clamp(0, length - 1)
    cells = torch.arange(length, device=start.device, dtype=start.dtype)
    weights = (1 - (at[..., None] - cells).abs()).clamp(min=0) * counts[..., None]  # (R, P, G, length)
    return weights.sum(dim=2) / grid.clamp(min=1)  # (R, P, length)
