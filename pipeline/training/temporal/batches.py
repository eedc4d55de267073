"""Padded batches of untrimmed videos with their segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.temporal import StepSegments
from pipeline.training.padding import padded, shortest_first
from pipeline.training.shares import shared_batches
from pipeline.training.task import Share
from pipeline.training.temporal.dataset import TemporalData


@dataclass(frozen=True)
class Batch:
    """N videos, padded at the end to the longest. Legend: T steps, D dimensions."""

    x: Tensor  # (N, T, D) float32, zero in the padding
    mask: Tensor  # (N, T) bool, True where a step is
    targets: Sequence[StepSegments]  # N
    weights: Tensor  # (N,) float32
    noise: Tensor | None  # (N, num_noise) float32, for dropout; None when evaluating
    videos: NDArray[np.int64]  # (N,) indices into the data
    total: int  # videos of this batch on all workers


def train_batches(data: TemporalData, share: Share, *, batch_size: int, num_noise: int) -> Iterator[Batch]:
    """This worker's share of each training batch of an epoch."""
    for part in shared_batches(data.videos_of("train"), share, batch_size=batch_size, num_noise=num_noise):
        yield _batch(data, part.items, part.noise, weight=part.weight, total=part.total)


def eval_batches(data: TemporalData, videos: NDArray[np.int64], *, batch_size: int) -> Iterator[Batch]:
    """All of `videos`, shortest first, so that little is padded."""
    for part in shortest_first(videos, data.lengths, batch_size=batch_size):
        yield _batch(data, part, None, weight=1.0, total=len(part))


def _batch(data: TemporalData, videos: NDArray[np.int64], noise: Tensor | None, *, weight: float, total: int) -> Batch:
    x, mask = padded(data.matrix, data.offsets, videos)
    return Batch(
        x=x,
        mask=mask,
        targets=[data.segments[video] for video in videos],
        weights=torch.full((len(videos),), weight),
        noise=noise,
        videos=videos,
        total=total,
    )
