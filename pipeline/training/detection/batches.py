"""Batches of keyframes with their maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.heads.roi import KeyTargets
from pipeline.store import Store
from pipeline.training.detection.dataset import DetectionData
from pipeline.training.detection.loader import MapLoader
from pipeline.training.normalise import SMALLEST_STD, Kind, Normaliser
from pipeline.training.shares import shared_batches
from pipeline.training.task import Share

MAPS_AT_A_TIME = 16  # when nothing is trained


@dataclass(frozen=True)
class Batch:
    """N keyframes. Legend: C channels, T steps, H×W cells."""

    maps: Tensor  # (N, C, T, H, W) float32, normalised
    key_step: Tensor  # (N,) float32
    targets: Sequence[KeyTargets]  # N
    boxes: Sequence[Tensor] | None  # N of (B, 4); None: learned
    box_scores: Sequence[Tensor] | None  # N of (B,)
    weights: Tensor  # (N,) float32
    keys: NDArray[np.int64]  # (N,) indices into the data
    total: int  # keyframes of this batch on all workers

    def to(self, device: torch.device) -> Batch:
        """The same, what enters the model on `device`."""
        return Batch(
            maps=self.maps.to(device),
            key_step=self.key_step.to(device),
            targets=[target.to(device) for target in self.targets],
            boxes=None if self.boxes is None else [boxes.to(device) for boxes in self.boxes],
            box_scores=None if self.box_scores is None else [scores.to(device) for scores in self.box_scores],
            weights=self.weights,
            keys=self.keys,
            total=self.total,
        )


def train_batches(
    store: Store, data: DetectionData, normaliser: Normaliser, share: Share, *, batch_size: int
) -> Iterator[Batch]:
    """This worker's share of each training batch of an epoch."""
    parts = list(shared_batches(data.keys_of("train"), share, batch_size=batch_size))
    with closing(MapLoader(store, data.maps)) as loader:
        loaded = loader.batches(data.keys.row[part.items] for part in parts)
        for part, maps in zip(parts, loaded, strict=True):
            yield _batch(data, normaliser, part.items, maps, weight=part.weight, total=part.total)


def eval_batches(store: Store, data: DetectionData, normaliser: Normaliser, keys: NDArray[np.int64]) -> Iterator[Batch]:
    """All of `keys`, in their order."""
    places = [keys[at : at + MAPS_AT_A_TIME] for at in range(0, len(keys), MAPS_AT_A_TIME)]
    with closing(MapLoader(store, data.maps)) as loader:
        for items, maps in zip(places, loader.batches(data.keys.row[items] for items in places), strict=True):
            yield _batch(data, normaliser, items, maps, weight=1.0, total=len(items))


def _batch(
    data: DetectionData,
    normaliser: Normaliser,
    keys: NDArray[np.int64],
    maps: NDArray[np.float32],
    *,
    weight: float,
    total: int,
) -> Batch:
    if normaliser.kind == "standard":
        maps -= normaliser.mean[:, None, None, None]
        maps /= normaliser.std[:, None, None, None]
    given = None if data.given is None else [data.given[key] for key in keys]
    return Batch(
        maps=torch.from_numpy(maps),
        key_step=torch.from_numpy(data.key_step[keys].astype(np.float32)),
        targets=[data.targets[key] for key in keys],
        boxes=None if given is None else [boxes for boxes, _ in given],
        box_scores=None if given is None else [scores for _, scores in given],
        weights=torch.full((len(keys),), weight),
        keys=keys,
        total=total,
    )


def fit_channels(kind: Kind, store: Store, data: DetectionData) -> Normaliser:
    """Mean and standard deviation of each channel over the maps of the training keyframes, each once, in double
    precision, map by map (Chan et al. 1979)."""
    channels = sum(data.maps.blocks)
    mean, std = np.zeros(channels), np.ones(channels)
    if kind == "standard":
        rows = np.unique(data.keys.row[data.keys_of("train")])
        places = [rows[at : at + MAPS_AT_A_TIME] for at in range(0, len(rows), MAPS_AT_A_TIME)]
        squares, count = np.zeros(channels), 0
        with closing(MapLoader(store, data.maps)) as loader:
            for maps in loader.batches(places):
                for one in maps.astype(np.float64):
                    cells = one[0].size
                    own = one.mean(axis=(1, 2, 3))
                    shift = own - mean
                    squares += np.square(one - own[:, None, None, None]).sum(axis=(1, 2, 3))
                    squares += shift**2 * count * cells / (count + cells)
                    mean += shift * cells / (count + cells)
                    count += cells
        std = np.sqrt(squares / count)
        std[std < SMALLEST_STD] = 1.0
    return Normaliser(kind, mean.astype(np.float32), std.astype(np.float32))
