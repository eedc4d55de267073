"""The actors at a keyframe: true boxes in the view of its map, with what each does, as a head is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.roi import KeyTargets
from pipeline.training.detection.view import into_view
from schemas.annotation import BoxTable
from schemas.errors import ReelmillError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Actors:
    """The actors of one keyframe: boxes (G, 4) float32 in shares of the view, and for each its rows' labels."""

    box: NDArray[np.float32]
    labels: tuple[Ints, ...]


def actors_of(truth: BoxTable, owner: Ints, key: int, view: Floats) -> Actors:
    """Rows of one keyframe with the same box are one actor, who does several things."""
    first, last = np.searchsorted(owner, [key, key + 1])
    boxes, kept = into_view(truth.box[first:last], view)
    narrow = boxes.astype(np.float32)
    wide = (narrow[:, :2] < narrow[:, 2:]).all(axis=1)
    labels = truth.label[first:last][kept][wide]
    found, actor = np.unique(narrow[wide], axis=0, return_inverse=True)
    return Actors(found, tuple(labels[actor.reshape(-1) == g] for g in range(len(found))))


def target_of(actors: Actors, classes: Sequence[tuple[int, str]]) -> KeyTargets:
    place = {label: k for k, (label, _) in enumerate(classes)}
    actions = torch.zeros(len(actors.box), len(classes))
    for row, labels in enumerate(actors.labels):
        for label in labels.tolist():
            actions[row, place[label]] = 1
    return KeyTargets(box=torch.from_numpy(actors.box).reshape(-1, 4), actions=actions)


def classes_of(
    truth: BoxTable, actors: Sequence[Actors], splits: NDArray[np.str_], *, where: str
) -> tuple[tuple[int, str], ...]:
    """The (label, name) of the classes that boxes have, in the annotations' order; each must have one to learn from."""
    counts: dict[str, Counter[int]] = {}
    for actor, split in zip(actors, splits.tolist(), strict=True):
        for labels in actor.labels:
            counts.setdefault(split, Counter()).update(labels.tolist())
    found = sorted({label for of_split in counts.values() for label in of_split})
    if not found:
        raise ReelmillError(f"{where}: there is no box at any keyframe that has maps, or none in their view")
    for label in found:
        if not counts.get("train", Counter())[label]:
            elsewhere = " and ".join(f"{counts.get(split, Counter())[label]} in {split}" for split in ("val", "test"))
            raise ReelmillError(
                f"{where}: class {truth.labels[label]!r} has no box at a training keyframe ({elsewhere}); annotate "
                "more videos, or change holdout.seed"
            )
    return tuple((label, truth.labels[label]) for label in found)
