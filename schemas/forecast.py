"""What `reelmill plan` predicts, as `_runs/plan.json` keeps it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.work import RUNS_FOLDER

PLAN_FILE = f"{RUNS_FOLDER}/plan.json"

Device = Literal["cpu", "gpu"]


class Predicted(BaseModel):
    """A part of a prediction. Not a section of a config: what another version has left in `_runs/` is read, too."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Range(Predicted):
    """A number that is not known exactly: 10 % of the resampled probes lie below `low`, 10 % above `high`."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Range:
        return Range(low=self.low * factor, value=self.value * factor, high=self.high * factor)


class Cluster(Predicted):
    """The machines that a prediction is for."""

    nodes: int = Field(ge=1)
    cores: int = Field(ge=1)  # of each node
    gpus: int = Field(default=0, ge=0)  # of each GPU node; of each node, where there are no GPU nodes of their own
    price: float | None = Field(default=None, ge=0)  # of a node-hour, in whatever currency
    gpu_nodes: int = Field(default=0, ge=0)  # nodes beside `nodes`, which then have no GPU; their cores feed their GPUs
    gpu_price: float | None = Field(default=None, ge=0)  # of an hour of a GPU node

    @property
    def num_cores(self) -> int:
        """Cores that decode and compute flow."""
        return self.nodes * self.cores

    @property
    def num_gpus(self) -> int:
        return (self.gpu_nodes or self.nodes) * self.gpus

    @property
    def price_per_hour(self) -> float | None:
        """Of the whole cluster; None where a price is missing."""
        if self.price is None or (self.gpu_nodes and self.gpu_price is None):
            return None
        return self.nodes * self.price + self.gpu_nodes * (self.gpu_price or 0.0)


class ProductForecast(Predicted):
    """One product, for the whole manifest. A worker is a core, a GPU, or a model that has all cores of a node."""

    product: str
    fingerprint: str
    device: Device
    cores_per_worker: float  # that a worker keeps busy; 0 on a GPU
    source: Literal["measured", "given"]  # given: the rate on a GPU was stated, not measured
    num_probes: int  # videos, or batches of clips, that were timed
    grows_with: str  # what the extrapolation goes by: "bytes", "seconds", "segments" or "videos"
    worker_s: Range  # wall seconds of its workers, summed
    cpu_s: Range  # CPU seconds of all threads and of decoder processes, summed, once workers have loaded their code
    items: Range  # clips, feature rows …
    bytes: Range
    objects: int  # files: data, index, ledger and receipt of each unit, and the card
    open_s: float  # to load code and model, once a worker
    open_cpu_s: float = 0.0  # CPU seconds of a worker's first unit beyond those of others: no part of `cpu_s`
    largest_unit_s: float  # worker-seconds of the unit that takes longest
    workers: int | None = None  # where the config's `pools` bound them


class Scaled(Predicted):
    """The same work on another number of nodes."""

    nodes: int
    gpu_nodes: int
    wall_s: Range
    cost: Range | None


class Forecast(Predicted):
    """The whole of a prediction."""

    machine: str  # where the probes ran
    num_videos: int
    source_bytes: int
    num_units: int
    num_probed: int
    num_probes_failed: int
    probing_s: float
    cluster: Cluster
    efficiency: float
    before_s: float  # until workers are started: Ray, and the products' cards
    products: tuple[ProductForecast, ...]
    wall_s: Range
    core_s: Range  # of one core, all products
    gpu_s: Range
    bytes: Range
    objects: int
    puts: float  # requests that write to an object store
    cost: Range | None
    bottleneck: str  # one sentence
    scaled: tuple[Scaled, ...]
    assumptions: tuple[str, ...]
