"""The units of a run as a lazy Ray dataset: one row, one block, is one unit, in the order in which they start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.graph import Unit

UNITS_AHEAD = 64  # that the reading task says before the driver took them


class UnitSource(ray.data.Datasource):
    """`from_items` puts each unit into the object store before anything starts: minutes and gigabytes for 100,000 of
    them. Here one task says them, one after the other."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self._units = list(units)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ray.data.ReadTask]:
        units = self._units

        def read() -> Iterator[pa.Table]:
            for unit in units:
                yield pa.Table.from_pylist([{**asdict(unit), "errors": "{}", "fatal": False}])

        facts = BlockMetadata(num_rows=len(units), size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(read, facts)]


def unit_dataset(units: Sequence[Unit]) -> ray.data.Dataset:
    """One row, one block, for each unit, in this order."""
    here = ray.get_runtime_context().get_node_id()  # the reading task is lost only together with the driver
    options = {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=True),
        "_generator_backpressure_num_objects": 2 * UNITS_AHEAD,  # a block and its metadata each; Ray Data's own is 2
    }
    dataset: ray.data.Dataset = ray.data.read_datasource(
        UnitSource(units), ray_remote_args=options, override_num_blocks=1
    )
    return dataset


def largest_first(units: Sequence[Unit]) -> list[Unit]:
    """The units in the order in which they start: those with most bytes first, so that the last to end are small."""
    return sorted(units, key=lambda unit: (-unit.num_bytes, -unit.num_rows, unit.index))
