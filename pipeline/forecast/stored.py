"""Bytes of units: what is of their items, and what each unit holds beside them.

A unit of few items is no scaled-down one of many: the head of a Parquet row group and the end of a tar come once.
What the items themselves take is read from the files, so that one whose contents compress well is not taken for a sign
of how much comes once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.forecast.fit import Line, fit_line
from pipeline.shards import sample_spans, shard_bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What a unit holds beside what an empty one does."""

    items: int
    own: int  # bytes of its items alone: of the samples in its shard, without the end of the tar, or of its vectors
    rest: float  # all other bytes


def sample_bytes(shard: pa.NativeFile | BinaryIO) -> int:
    """Of the samples in a shard, with their headers."""
    return sum(span.stop - span.start for _, span in sample_spans(shard))


def vector_bytes(part: pa.NativeFile | BinaryIO) -> int:
    """Of the vectors in a Parquet file of features, as they are stored."""
    found = pq.read_metadata(part)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(one.total_compressed_size for one in columns if one.path_in_schema.startswith("embedding."))


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
    shard = shard_bytes(round(unit.own * items / unit.items)) - shard_bytes(0)
    return shard + max(0.0, unit.rest + line.slope * (items - unit.items))
