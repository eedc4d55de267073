"""Padded batches of untrimmed videos with their segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.temporal import StepSegments
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
    order = videos[np.argsort(data.lengths[videos], kind="stable")]
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        yield _batch(data, part, None, weight=1.0, total=len(part))


def _batch(data: TemporalData, videos: NDArray[np.int64], noise: Tensor | None, *, weight: float, total: int) -> Batch:
    lengths = data.lengths[videos]
    x = np.zeros((len(videos), int(lengths.max()), data.matrix.shape[1]), dtype=np.float32)
    for row, video in enumerate(videos):
        x[row, : lengths[row]] = data.matrix[data.offsets[video] : data.offsets[video + 1]]
    return Batch(
        x=torch.from_numpy(x),
        mask=torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None]),
        targets=[data.segments[video] for video in videos],
        weights=torch.full((len(videos),), weight),
        noise=noise,
        videos=videos,
        total=total,
    )
