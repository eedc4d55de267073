"""Sequences of different lengths as one tensor: padded at the end, with a mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def padded(matrix: NDArray[np.float32], offsets: NDArray[np.int64], videos: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """x (N, T, D) float32, zero in the padding, and mask (N, T) bool, True where a step is, of N `videos`.

    Video v has the rows matrix[offsets[v]:offsets[v + 1]]; T is the longest of them.
    """
    lengths = np.diff(offsets)[videos]
    x = np.zeros((len(videos), int(lengths.max()), matrix.shape[1]), dtype=np.float32)
    for row, video in enumerate(videos):
        x[row, : lengths[row]] = matrix[offsets[video] : offsets[video + 1]]
    return torch.from_numpy(x), torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None])


def shortest_first(
    videos: NDArray[np.int64], lengths: NDArray[np.int64], *, batch_size: int
) -> Iterator[NDArray[np.int64]]:
    """`videos` in batches of like lengths, so that little is padded. `lengths`: of all videos."""
    order = videos[np.argsort(lengths[videos], kind="stable")]
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
