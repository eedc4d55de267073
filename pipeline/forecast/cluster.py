"""From work to hours on a cluster: which resource is busy longest, and what comes before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.forecast.fit import Doubtful, certain
from schemas.forecast import Cluster, Device, ProductForecast, Range, Scaled

MOST = 0.5  # of the time; what takes less does not decide it
TAIL = 0.5  # of the largest unit's way through all stages: the end, when workers run out of units one after the other


@dataclass(frozen=True, slots=True)
class Load:
    """What one product asks of the machines, over all its units."""

    product: str
    device: Device
    cores_per_worker: float  # that a worker keeps busy; 0 on a GPU
    worker_s: Doubtful
    cpu_s: Doubtful
    open_s: float  # to load code and model, once a worker
    largest_unit_s: float  # worker-seconds
    workers: int | None  # of its pool, where it is bounded

    @property
    def takes_cores(self) -> bool:
        """Whether its workers are tasks on cores, as of clips and flow, where others are models."""
        return self.device == "cpu" and not self.product.startswith("features/")

    @property
    def core_s(self) -> Doubtful:
        """Of CPU products: seconds of one core."""
        return self.worker_s * self.cores_per_worker

    def unit_s(self, cluster: Cluster) -> float:
        """The largest unit; a model that takes all cores may have more of them there than it had here."""
        if self.device == "gpu" or self.takes_cores:
            return self.largest_unit_s
        return self.largest_unit_s * self.cores_per_worker / cluster.cores

    def share(self, of_it: float) -> Load:
        """The same for a part of the units."""
        return Load(
            product=self.product,
            device=self.device,
            cores_per_worker=self.cores_per_worker,
            worker_s=self.worker_s * of_it,
            cpu_s=self.cpu_s * of_it,
            open_s=self.open_s,
            largest_unit_s=self.largest_unit_s,
            workers=self.workers,
        )


def load_of(found: ProductForecast) -> Load:
    """As it was predicted, without its doubt."""
    return Load(
        product=found.product,
        device=found.device,
        cores_per_worker=found.cores_per_worker,
        worker_s=certain(found.worker_s.value),
        cpu_s=certain(found.cpu_s.value),
        open_s=found.open_s,
        largest_unit_s=found.largest_unit_s,
        workers=found.workers,
    )


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a cluster takes, and why."""

    wall_s: Range
    limited_by: str  # "cores", "gpus", "gpu-cores", "pool <kind>" or "units <product>"
    share: float  # of the wall time for which that is busy


def opening_s(loads: Sequence[Load]) -> float:
    """What workers load before they work: one of a core opens every stage in turn, a model only its own."""
    in_turn = sum(load.open_s for load in loads if load.takes_cores)
    return max([in_turn, *(load.open_s for load in loads)], default=0.0)


def core_s(loads: Sequence[Load]) -> Doubtful:
    """Seconds of one core, of all products that are made on CPUs."""
    return _sum(load.core_s for load in loads if load.device == "cpu")


def gpu_s(loads: Sequence[Load]) -> Doubtful:
    return _sum(load.worker_s for load in loads if load.device == "gpu")


def hours(loads: Sequence[Load], cluster: Cluster, *, num_units: int, efficiency: float, before_s: float) -> Hours:
    """The resource that is busy longest decides. To it come `before_s` and the loading of code and models at the start,
    and at the end half of the largest unit's way through all stages: the range has none of it below, all of it above.
    """
    bounds = dict(_bounds(loads, cluster, num_units))
    limited_by = max(bounds, key=lambda name: bounds[name].value)
    busy = certain(0)
    for bound in bounds.values():
        busy = busy.at_least(bound * (1 / efficiency))
    parallel = min(num_units, cluster.num_cores)
    way_s = sum(load.unit_s(cluster) for load in loads) * (1 - 1 / parallel)
    middle = (busy + (before_s + opening_s(loads) + TAIL * way_s)).range
    wall_s = Range(low=middle.low - TAIL * way_s, value=middle.value, high=middle.high + (1 - TAIL) * way_s)
    return Hours(wall_s, limited_by, bounds[limited_by].value / efficiency / max(middle.value, 1e-9))


def _bounds(loads: Sequence[Load], cluster: Cluster, num_units: int) -> Iterator[tuple[str, Doubtful]]:
    """What may be busy longest, with the seconds that it is busy at least."""
    cores, on_gpu = core_s(loads), [load for load in loads if load.device == "gpu"]
    feeding = _sum(load.cpu_s for load in on_gpu)
    if cluster.gpu_nodes:
        yield "gpu-cores", feeding * (1 / (cluster.gpu_nodes * cluster.cores))
    else:
        cores = cores + feeding
    yield "cores", cores * (1 / cluster.num_cores)
    if on_gpu:
        assert cluster.num_gpus, "the command line refuses a cluster without GPUs for what runs on them"
        yield "gpus", gpu_s(loads) * (1 / cluster.num_gpus)
    for kind in ("clips", "flow", "features"):
        bounded = [load for load in loads if load.product.startswith(f"{kind}/") and load.workers]
        if bounded:
            yield f"pool {kind}", _sum(load.worker_s for load in bounded) * (1 / (bounded[0].workers or 1))
    if num_units < cluster.num_cores:
        for load in loads:
            if load.takes_cores:
                yield f"units {load.product}", load.worker_s * (1 / num_units)


def cost(wall_s: Range, cluster: Cluster) -> Range | None:
    price = cluster.price_per_hour
    return None if price is None else wall_s.times(price / 3600)


def scaled(
    loads: Sequence[Load],
    cluster: Cluster,
    *,
    num_units: int,
    efficiency: float,
    before_s: float,
    times: Sequence[int] = (1, 2, 4, 8),
) -> list[Scaled]:
    """The same work on more nodes."""
    found = []
    for factor in times:
        larger = cluster.model_copy(update={"nodes": cluster.nodes * factor, "gpu_nodes": cluster.gpu_nodes * factor})
        wall_s = hours(loads, larger, num_units=num_units, efficiency=efficiency, before_s=before_s).wall_s
        found.append(Scaled(nodes=larger.nodes, gpu_nodes=larger.gpu_nodes, wall_s=wall_s, cost=cost(wall_s, larger)))
    return found


def bottleneck(loads: Sequence[Load], found: Hours, *, num_videos: int, num_units: int) -> str:
    """What decides the time, and what would shorten it."""
    busy = f"busy for {found.share:.0%} of the time"
    if found.share < MOST:
        return f"starting up and the last units, as the work itself takes {found.share:.0%} of the time"
    if found.limited_by == "gpus":
        work = {load.product: load.worker_s.value for load in loads if load.device == "gpu"}
        return f"the GPUs, {busy}: {_heaviest(work)}; more GPUs shorten it"
    if found.limited_by == "cores":
        work = {load.product: load.core_s.value for load in loads if load.device == "cpu"}
        work |= {f"feeding {load.product}": load.cpu_s.value for load in loads if load.device == "gpu"}
        return f"the CPU cores, {busy}: {_heaviest(work)}; more cores shorten it"
    if found.limited_by == "gpu-cores":
        return f"the cores of the GPU nodes, {busy}: they decode what the GPUs take; larger GPU nodes shorten it"
    kind, _, name = found.limited_by.partition(" ")
    if kind == "pool":
        return f"the pool of {name}, {busy}: more pools.{name}.workers shorten it"
    said = f"the units, of which {name} has fewer than there are cores"
    if num_videos <= num_units:
        return f"{said}: each is one video, and none can be smaller"
    return f"{said}: units.videos_per_unit below {math.ceil(num_videos / num_units)} shortens it"


def _heaviest(work: Mapping[str, float]) -> str:
    most = max(work, key=lambda name: work[name])
    return f"{most} is {work[most] / max(sum(work.values()), 1e-9):.0%} of their work"


def _sum(numbers: Iterator[Doubtful]) -> Doubtful:
    return sum(numbers, start=certain(0))
