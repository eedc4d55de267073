"""What work cost: a unit, a product in a run, a run. Never part of a product: a receipt holds no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

RUNS_FOLDER = "_runs"  # of a dataset: what is about runs, and part of no product


@dataclass(frozen=True, slots=True)
class UnitWork:
    """One unit as its worker measured it, by that machine's monotonic clock.

    wall_s = busy_s + reading_s + writing_s; what opening the stage took came before. docs/observing.md says what counts
    as what.
    """

    product: str
    unit: int
    node: str  # of the Ray node; "" outside of Ray
    pid: int  # of the worker
    wall_s: float  # from taking the unit up to its receipt
    busy_s: float  # computing
    reading_s: float  # waiting for input
    writing_s: float  # waiting for output
    opening_s: float = 0.0  # loading code and model; only with the first unit of a worker
    device_s: float | None = None  # of the GPU, by its own clock; None where none was used
    cpu_s: float = 0.0  # of all threads and of the decoder process
    bytes_in: int = 0
    bytes_out: int = 0
    videos: int = 0  # rows of the manifest
    items: int = 0  # clips, feature rows …
    source_s: float = 0.0  # seconds of video, from the start of a video's first clip to the end of its last
    frames_decoded: int = 0
    frames_used: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)  # ledger status -> how many
    reasons: Mapping[str, int] = field(default_factory=dict)  # of rows that failed or are partial -> how many


# what a unit, a product in a run and a product in all runs each have as a plain number, and are summed by
SUMS: tuple[str, ...] = ("videos", "items", "bytes_in", "bytes_out", "frames_decoded", "frames_used")
SUMS += ("source_s", "busy_s", "opening_s", "reading_s", "writing_s", "cpu_s")
SUMS_OF_RUNS = ("units", "failed_rows", "given_up", "retries", "wall_s", "held_s", "idle_s")  # of a product in a run


class PoolRecord(BaseModel):
    """The workers that a product had."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    workers: int | None = None  # None: as many as fit
    cpus: float = 1.0  # of each
    gpus: float = 0.0  # of each
    holds: bool = False  # workers are actors, which hold what they have while they wait; others are tasks
    labels: dict[str, str] = {}  # of the nodes that they may be on; none: any


class ProductWork(BaseModel):
    """What one product cost in one run, summed over its units.

    held_s = busy_s + opening_s + idle_s + reading_s + writing_s, all in seconds of workers.
    """

    model_config = ConfigDict(extra="ignore")
    fingerprint: str = ""
    pool: PoolRecord = PoolRecord()
    units: int = 0
    videos: int = 0
    items: int = 0
    source_s: float = 0.0
    wall_s: float = 0.0  # from the run's start to the last news of this product
    held_s: float = 0.0
    busy_s: float = 0.0
    opening_s: float = 0.0
    idle_s: float = 0.0  # a worker could have worked and no unit was ready
    reading_s: float = 0.0  # inside a unit
    writing_s: float = 0.0
    cpu_s: float = 0.0
    device_s: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    frames_decoded: int = 0
    frames_used: int = 0
    failed_rows: int = 0
    reasons: dict[str, int] = {}
    given_up: int = 0  # units that raised
    retries: int = 0  # units begun again because their worker was lost

    def add(self, work: UnitWork | ProductWork) -> None:
        """Add what a unit cost, or what the same product cost in another run."""
        for name in SUMS + (SUMS_OF_RUNS if isinstance(work, ProductWork) else ()):
            setattr(self, name, getattr(self, name) + getattr(work, name))
        if work.device_s is not None:
            self.device_s = (self.device_s or 0.0) + work.device_s
        for reason, count in work.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def share(self, seconds: float) -> float:
        """Of what its workers held; 0 where they held nothing."""
        return min(1.0, seconds / self.held_s) if self.held_s > 0 else 0.0

    @property
    def input_s(self) -> float:
        return self.idle_s + self.reading_s

    @property
    def amplification(self) -> float | None:
        """Frames decoded for each that was used; None where none was decoded."""
        return self.frames_decoded / self.frames_used if self.frames_used and self.frames_decoded else None


class NodeRecord(BaseModel):
    """One machine of the cluster."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str  # as UnitWork.node has it
    address: str
    cpus: float
    gpus: float
    labels: dict[str, str] = {}


State = Literal["running", "done", "failed", "interrupted"]


class RunRecord(BaseModel):
    """`_runs/run-000001.json`: one run as its driver saw it, by the driver's monotonic clock."""

    model_config = ConfigDict(extra="ignore")
    run: int
    runs: int = 1  # more in the sums of earlier ones (pipeline.runs.prune), of which `run` is the last
    state: State
    began: str  # UTC, for people; nothing is computed from it
    wall_s: float  # of the units' part: without indexing, cards and heads
    cores_s: float = 0.0  # cores of the cluster × seconds
    gpus_s: float = 0.0
    units_pending: int = 0  # when it began
    products: dict[str, ProductWork] = {}
    nodes: tuple[NodeRecord, ...] = ()
    versions: dict[str, str] = {}
    config_sha256: str = ""

    @property
    def cpu_share(self) -> float | None:
        """Of the cluster's cores; None where their number is not known."""
        total_s = sum(product.cpu_s for product in self.products.values())
        return min(1.0, total_s / self.cores_s) if self.cores_s > 0 else None

    @property
    def gpu_share(self) -> float | None:
        """Of the cluster's GPUs, by their own clocks; None where no GPU's time was measured."""
        measured = [product.device_s for product in self.products.values() if product.device_s is not None]
        return min(1.0, sum(measured) / self.gpus_s) if measured and self.gpus_s > 0 else None
