"""Bytes of units: what is of their items, and what each unit holds beside them.

A unit of few items is no scaled-down one of many: the head of a Parquet row group and the end of a tar come once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.forecast.fit import Line, fit_line
from pipeline.shards import shard_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a unit holds beside what an empty one does."""

    items: int
    samples: int  # bytes of the samples in its shard, without the end of the tar; 0 where it has no shard
    rest: float  # bytes of its other files


def line_of(units: Sequence[Stored]) -> Line:
    """`rest` of a unit by its items: `fixed` beside them, as soon as it has any, and `slope` of each. All of it is of
    the items where all units have equally many, and 0 where none has any."""
    filled = [unit for unit in units if unit.items]
    if not filled:
        return Line(0.0, 0.0)
    items = np.array([unit.items for unit in filled], np.float64)
    return fit_line(items, np.array([unit.rest for unit in filled], np.float64), np.ones(len(filled)))


def grown(unit: Stored, items: float, line: Line) -> float:
    """What a unit of `items` items, all like those of this one, holds beside what an empty one does."""
    if not unit.items:
        return unit.rest
    shard = shard_bytes(round(unit.samples * items / unit.items)) - shard_bytes(0)
    return shard + max(0.0, unit.rest + line.slope * (items - unit.items))
