"""How the items of an epoch are ordered and shared out among workers: from (seed, epoch, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.training.seeds import seed_of
from pipeline.training.task import Share


@dataclass(frozen=True)
class Part:
    """What one worker takes of one batch."""

    step: int
    items: NDArray[np.int64]  # never empty
    noise: Tensor  # (items, num_noise) float32, uniform in [0, 1), for dropout
    seeds: tuple[int, ...]  # one per item, for whatever else is random about it
    weight: float  # 0: the item is there only to keep the worker in step
    total: int  # items of the batch on all workers


def shared_batches(items: NDArray[np.int64], share: Share, *, batch_size: int, num_noise: int = 0) -> Iterator[Part]:
    """A worker's part of each batch of an epoch, from `share.first_step` on.

    Every worker draws the order and the noise of the whole batch and takes each `world_size`-th row of both, so
    that together they compute what one worker would.
    """
    order = items[np.random.default_rng(seed_of(share.seed, "order", share.epoch)).permutation(len(items))]
    for step, start in enumerate(range(0, len(order), batch_size)):
        if step < share.first_step:
            continue
        whole = order[start : start + batch_size]
        generator = torch.Generator().manual_seed(seed_of(share.seed, "noise", share.epoch, step))
        noise = torch.rand(len(whole), num_noise, generator=generator)
        mine, weight = slice(share.rank, None, share.world_size), 1.0
        if share.rank >= len(whole):  # fewer items than workers are left: take part in the exchange of gradients
            mine, weight = slice(0, 1), 0.0
        part = whole[mine]
        seeds = tuple(seed_of(share.seed, "item", share.epoch, int(item)) for item in part)
        yield Part(step, part, noise[mine], seeds, weight, len(whole))
