"""Padded batches with masks, in an order that depends on (seed, epoch) only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.classification.dataset import HeadData
from pipeline.training.padding import padded, shortest_first
from pipeline.training.shares import shared_batches
from pipeline.training.task import Share


@dataclass(frozen=True)
class Batch:
    """N videos, padded at the end to the longest. Legend: T clips, D dimensions, K classes."""

    x: Tensor  # (N, T, D) float32, zero in the padding
    mask: Tensor  # (N, T) bool, True where a clip is
    targets: Tensor  # (N,) int64, (N, K) float32 or (N, T, K) float32: see pipeline/heads/objectives.py
    weights: Tensor  # (N,) float32: 1, or 0 for a row that only keeps a worker busy
    noise: Tensor | None  # (N, num_noise) float32 in [0, 1), for dropout; None when evaluating
    videos: NDArray[np.int64]  # (N,) indices into the data
    total: int  # videos of this batch on all workers


def train_batches(data: HeadData, share: Share, *, batch_size: int, num_noise: int) -> Iterator[Batch]:
    """This worker's share of each training batch of an epoch."""
    for part in shared_batches(data.videos_of("train"), share, batch_size=batch_size, num_noise=num_noise):
        yield _batch(data, part.items, part.noise, weight=part.weight, total=part.total)


def eval_batches(data: HeadData, videos: NDArray[np.int64], *, batch_size: int) -> Iterator[Batch]:
    """All of `videos`, shortest first, so that little is padded."""
    for part in shortest_first(videos, data.lengths, batch_size=batch_size):
        yield _batch(data, part, None, weight=1.0, total=len(part))


def _batch(data: HeadData, videos: NDArray[np.int64], noise: Tensor | None, *, weight: float, total: int) -> Batch:
    x, mask = padded(data.sequences.matrix, data.sequences.offsets, videos)
    return Batch(
        x=x,
        mask=mask,
        targets=torch.from_numpy(_targets(data, videos, x.shape[1])),
        weights=torch.full((len(videos),), weight),
        noise=noise,
        videos=videos,
        total=total,
    )


def _targets(data: HeadData, videos: NDArray[np.int64], num_steps: int) -> NDArray[Any]:
    if data.kind == "single":
        return data.labels[videos]
    if data.kind == "multi":
        return data.labels[videos].astype(np.float32)
    targets = np.zeros((len(videos), num_steps, len(data.classes)), dtype=np.float32)
    for row, video in enumerate(videos):
        targets[row, : data.lengths[video]] = data.labels[data.rows_of(videos[row : row + 1])]
    return targets
