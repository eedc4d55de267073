"""The units of a run as a lazy Ray dataset: one row, one block, is a bundle of them, in the order in which they start.

How many go together is decided as late as can be: what is ahead of the workers is a few bundles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy
from ray.data._internal.execution.operators.input_data_buffer import InputDataBuffer
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.graph import Unit
from pipeline.runner.bundle import bundle_of, units_a_task

BUNDLES_AHEAD = 16  # that the reading task says before the driver took them
BUNDLES_WAITING = 32  # in the driver, for a worker


class UnitSource(ray.data.Datasource):
    """`from_items` puts each unit into the object store before anything starts: minutes and gigabytes for 100,000 of
    them. Here one task says them, one bundle after the other. `pace` and `workers` as for `units_a_task`; without
    workers each unit goes alone."""

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        pace: Callable[[], Mapping[str, float]] = dict,
        workers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self._units, self._pace, self._workers = list(units), pace, dict(workers or {})

    @property
    def num_units(self) -> int:
        return len(self._units)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ray.data.ReadTask]:
        units, pace, workers = self._units, self._pace, self._workers

        def read() -> Iterator[pa.Table]:
            place = 0
            while place < len(units):
                count = units_a_task(pace() if workers else {}, workers, left=len(units) - place)
                yield pa.Table.from_pylist([bundle_of(units[place : place + count])])
                place += count

        facts = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ray.data.ReadTask(read, facts)]


class FewWaiting(BackpressurePolicy):
    """Ray Data takes from a reading task whatever it says, up to half the object store: all units of a run, long before
    their turn."""

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        reads = any(isinstance(before, InputDataBuffer) for before in op.input_dependencies)
        return 0 if reads and self._topology[op].output_queue.num_blocks >= BUNDLES_WAITING else None


def unit_dataset(source: UnitSource) -> ray.data.Dataset:
    """One row, one block, for each bundle, in this order."""
    here = ray.get_runtime_context().get_node_id()  # the reading task is lost only together with the driver
    options = {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=True),
        "_generator_backpressure_num_objects": 2 * BUNDLES_AHEAD,  # a block and its metadata each; Ray Data's own is 2
    }
    # 9 MB for 100,000 units, which go to the reading task once
    warnings.filterwarnings("ignore", message="The serialized size of your read function")
    context = ray.data.DataContext.get_current()
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, FewWaiting])
    dataset: ray.data.Dataset = ray.data.read_datasource(source, ray_remote_args=options, override_num_blocks=1)
    return dataset


def largest_first(units: Sequence[Unit]) -> list[Unit]:
    """The units in the order in which they start: those with most bytes first, so that the last to end are small."""
    return sorted(units, key=lambda unit: (-unit.num_bytes, -unit.num_rows, unit.index))
