"""Windows, pooling and convolution with SAME padding by their definition, for tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def windows(size: int, kernel: int, stride: int) -> list[tuple[int, int]]:
    """SAME along one side as TensorFlow's documentation defines it: [start, end) of each window, outside included.

    ceil(size / stride) windows; together they need max((outputs - 1) * stride + kernel - size, 0) more places, half of
    which, rounded down, are put before the first.
    """
    num_outputs = int(np.ceil(size / stride))
    extra = max(kernel - (size % stride or stride), 0)
    starts = [place * stride - extra // 2 for place in range(num_outputs)]
    return [(start, start + kernel) for start in starts]


def brute_max(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Max over the part of each window that lies inside. T×H×W."""
    sides = [windows(n, k, s) for n, k, s in zip(x.shape, kernel, stride, strict=True)]
    out = np.empty([len(side) for side in sides], x.dtype)
    for place in np.ndindex(*out.shape):
        inside = tuple(slice(max(0, side[at][0]), side[at][1]) for side, at in zip(sides, place, strict=True))
        out[place] = x[inside].max()
    return out


def brute_conv(x: np.ndarray, weight: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    """C×T×H×W and O×C×k×k×k in double -> O×t×h×w, zeros outside."""
    kernel = weight.shape[2:]
    sides = [windows(n, k, s) for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    margin = 8
    padded = np.pad(x.astype(np.float64), [(0, 0), *[(margin, margin)] * 3])
    out = np.empty([len(weight), *(len(side) for side in sides)])
    for place in np.ndindex(*out.shape[1:]):
        at = [side[index][0] + margin for side, index in zip(sides, place, strict=True)]
        window = padded[:, at[0] : at[0] + kernel[0], at[1] : at[1] + kernel[1], at[2] : at[2] + kernel[2]]
        out[:, *place] = np.tensordot(weight, window, axes=4)
    return out


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
