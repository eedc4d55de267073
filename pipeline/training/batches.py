"""Padded batches with masks, in an order that depends on (seed, epoch) only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.dataset import HeadData
from pipeline.training.seeds import seed_of


@dataclass(frozen=True)
class Batch:
    """N videos, padded at the end to the longest. Legend: T clips, D dimensions."""

    x: Tensor  # (N, T, D) float32, zero in the padding
    mask: Tensor  # (N, T) bool, True where a clip is
    labels: Tensor  # (N,) int64
    weights: Tensor  # (N,) float32: 1, or 0 for a row that only keeps a worker busy
    noise: Tensor | None  # (N, num_noise) float32 in [0, 1), for dropout; None when evaluating
    videos: NDArray[np.int64]  # (N,) indices into the data
    total: int  # videos of this batch on all workers


def train_batches(
    data: HeadData, *, batch_size: int, seed: int, epoch: int, num_noise: int, rank: int, world_size: int
) -> Iterator[Batch]:
    """This worker's share of each training batch of an epoch.

    Every worker draws the order and the noise of the whole batch and takes each `world_size`-th row of both, so
    that together they compute what one worker would.
    """
    videos = data.videos_of("train")
    order = videos[np.random.default_rng(seed_of(seed, "order", epoch)).permutation(len(videos))]
    for step, start in enumerate(range(0, len(order), batch_size)):
        whole = order[start : start + batch_size]
        generator = torch.Generator().manual_seed(seed_of(seed, "noise", epoch, step))
        noise = torch.rand(len(whole), num_noise, generator=generator)
        mine = slice(rank, None, world_size)
        if rank < len(whole):
            yield _batch(data, whole[mine], noise[mine], weight=1.0, total=len(whole))
        else:  # fewer videos than workers are left: take part in the exchange of gradients, with weight 0
            yield _batch(data, whole[:1], noise[:1], weight=0.0, total=len(whole))


def eval_batches(data: HeadData, videos: NDArray[np.int64], *, batch_size: int) -> Iterator[Batch]:
    """All of `videos`, shortest first, so that little is padded."""
    order = videos[np.argsort(data.sequences.lengths[videos], kind="stable")]
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        yield _batch(data, part, None, weight=1.0, total=len(part))


def _batch(data: HeadData, videos: NDArray[np.int64], noise: Tensor | None, *, weight: float, total: int) -> Batch:
    offsets, matrix = data.sequences.offsets, data.sequences.matrix
    lengths = data.sequences.lengths[videos]
    x = np.zeros((len(videos), int(lengths.max()), matrix.shape[1]), dtype=np.float32)
    for row, video in enumerate(videos):
        x[row, : lengths[row]] = matrix[offsets[video] : offsets[video + 1]]
    return Batch(
        x=torch.from_numpy(x),
        mask=torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None]),
        labels=torch.from_numpy(data.labels[videos]),
        weights=torch.full((len(videos),), weight),
        noise=noise,
        videos=videos,
        total=total,
    )
