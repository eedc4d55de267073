"""From probes to the whole manifest, product by product, and from that to hours on a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.forecast.fit import Doubtful, Total, certain, grows_with, ratio, total
from pipeline.forecast.probe import ProductProbe, VideoCost
from pipeline.graph import Unit
from schemas.errors import ReelmillError
from schemas.forecast import Cluster, Device, ProductForecast, Range, Scaled
from schemas.pools import Pools

RAY_START_S = 6.0  # of a local Ray; joining a cluster takes less
TAIL = 0.5  # of the largest unit's way through all stages: the end, when workers run out of units one after the other
PART_BYTES = 10 << 20  # of a multipart upload; pyarrow's smallest


@dataclass(frozen=True, slots=True)
class Whole:
    """A product over the whole manifest."""

    probe: ProductProbe
    grows_with: str
    worker_s: Doubtful
    cpu_s: Doubtful
    items: Doubtful
    num_bytes: Doubtful
    objects: int
    largest_unit_s: float  # worker-seconds
    largest_items: float  # of a unit
    device: Device
    is_given: bool  # its rate was stated
    workers: int | None  # of its pool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says of its videos without one being opened."""

    x: Mapping[str, np.ndarray]  # what a cost may grow with -> (N,), all positive
    starts: np.ndarray  # (U,) the first row of each unit

    @property
    def num_rows(self) -> int:
        return len(self.x["videos"])

    @property
    def num_units(self) -> int:
        return len(self.starts)


def manifest_of(table: pa.Table, units: Sequence[Unit]) -> Manifest:
    return Manifest(sizes_of(table), np.array([unit.start_row for unit in units]))


def sizes_of(table: pa.Table) -> dict[str, np.ndarray]:
    """What each video's cost may grow with, as far as it is known of all of them: name -> (N,), all positive."""
    return dict(_columns(table))


def _columns(table: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    yield "videos", np.ones(table.num_rows)
    if not table["bytes"].null_count:
        yield "bytes", np.maximum(1.0, table["bytes"].to_numpy().astype(np.float64))
    if not table["end_s"].null_count:
        seconds = pc.subtract(table["end_s"], pc.fill_null(table["start_s"], 0.0)).to_numpy()
        yield "seconds", np.maximum(1e-3, seconds)
    if "segment_start_s" in table.schema.names:
        counts = pc.fill_null(pc.list_value_length(table["segment_start_s"]), 0).to_numpy()
        yield "segments", np.maximum(0.1, counts.astype(np.float64))


def predict(
    probes: Sequence[ProductProbe],
    sample: Mapping[str, np.ndarray],
    manifest: Manifest,
    *,
    rates: Mapping[str, float],
    pools: Pools,
) -> list[Whole]:
    """Each probed product over the whole manifest.

    `sample`: what the cost of a video may grow with -> (n,) of the sample. `rates`: features product -> clips a second
    on one GPU.
    """
    wholes: dict[str, Whole] = {}
    for probe in probes:
        pool = pools.of(probe.product.kind).workers
        if probe.product.kind == "features":
            source = wholes[next(iter(probe.product.upstream))]
            whole = _features(probe, source, manifest, rates.get(probe.product.name), pool)
        else:
            whole = _videos(probe, sample, manifest, pool)
        wholes[probe.product.path] = whole
    return list(wholes.values())


def _videos(probe: ProductProbe, sample: Mapping[str, np.ndarray], manifest: Manifest, pool: int | None) -> Whole:
    chosen = [video.video for video in probe.videos]
    x = {name: values[chosen] for name, values in sample.items() if name in manifest.x}
    weight = _of(probe.videos, "weight")

    def over(what: str, name: str) -> Total:
        y = _of(probe.videos, what)
        return total(manifest.x[name], manifest.starts, of_sample=x[name], y=y, weight=weight)

    def best(what: str) -> Total:
        return over(what, grows_with(x, _of(probe.videos, what), weight))

    name = grows_with(x, _of(probe.videos, "worker_s"), weight)
    work, items = over("worker_s", name), best("items")
    units = manifest.num_units
    return Whole(
        probe=probe,
        grows_with=name,
        worker_s=work.whole + probe.unit_s * units,
        cpu_s=over("cpu_s", name).whole,
        items=items.whole,
        num_bytes=best("num_bytes").whole + probe.unit_bytes * units,
        objects=probe.files_per_unit * units + 1,
        largest_unit_s=work.largest_unit + probe.unit_s,
        largest_items=items.largest_unit,
        device=probe.device,
        is_given=False,
        workers=pool,
    )


def _of(costs: Sequence[VideoCost], name: str) -> np.ndarray:
    return np.array([getattr(cost, name) for cost in costs], np.float64)


def _features(probe: ProductProbe, source: Whole, manifest: Manifest, rate: float | None, pool: int | None) -> Whole:
    """`rate`: clips a second on one GPU, where that is given and not measured."""
    if not probe.batches:
        raise ReelmillError(f"{probe.product.path}: not one clip that was looked at gave features; run it to see why")
    clips = np.array([batch.clips for batch in probe.batches], np.float64)
    units = manifest.num_units

    def per_clip(name: str) -> Doubtful:
        return ratio(np.array([getattr(batch, name) for batch in probe.batches], np.float64), clips)

    worker_s = per_clip("worker_s") if rate is None else certain(1 / rate)
    cpu_s = per_clip("cpu_s") if rate is None else certain(0)
    return Whole(
        probe=probe,
        grows_with="clips",
        worker_s=source.items * worker_s + probe.unit_s * units,
        cpu_s=source.items * cpu_s,
        items=source.items * per_clip("rows"),
        num_bytes=source.items * per_clip("num_bytes") + probe.unit_bytes * units,
        objects=probe.files_per_unit * units + 1,
        largest_unit_s=source.largest_items * worker_s.value + probe.unit_s,
        largest_items=0.0,
        device="gpu" if rate is not None else probe.device,
        is_given=rate is not None,
        workers=pool,
    )


def product_forecast(whole: Whole) -> ProductForecast:
    product = whole.probe.product
    return ProductForecast(
        product=product.path,
        fingerprint=product.fingerprint,
        device=whole.device,
        cores_per_worker=whole.probe.cores_per_worker,
        source="given" if whole.is_given else "measured",
        num_probes=len(whole.probe.videos or whole.probe.batches),
        grows_with=whole.grows_with,
        worker_s=whole.worker_s.range,
        cpu_s=whole.cpu_s.range,
        items=whole.items.range,
        bytes=whole.num_bytes.range,
        objects=whole.objects,
        start_s=whole.probe.open_s,
        largest_unit_s=whole.largest_unit_s,
        workers=whole.workers,
    )


# ---------------------------------------------------------------- a cluster


@dataclass(frozen=True, slots=True)
class Hours:
    """How long a cluster takes, and why."""

    wall_s: Range
    limited_by: str  # "cores", "gpus", "gpu-cores", "pool", "units"
    share: float  # of the wall time for which that is busy


def start_s(wholes: Sequence[Whole]) -> float:
    """Until the first unit is worked on: Ray, the cards one after the other, and the slowest worker."""
    cards = sum(whole.probe.card_s for whole in wholes)
    return RAY_START_S + cards + max((whole.probe.open_s for whole in wholes), default=0.0)


def core_s(wholes: Sequence[Whole]) -> Doubtful:
    """Seconds of one core, of all products that are made on CPUs."""
    on_cpu = [whole.worker_s * whole.probe.cores_per_worker for whole in wholes if whole.device == "cpu"]
    return sum(on_cpu, start=certain(0))


def gpu_s(wholes: Sequence[Whole]) -> Doubtful:
    return sum((whole.worker_s for whole in wholes if whole.device == "gpu"), start=certain(0))


def hours(wholes: Sequence[Whole], cluster: Cluster, *, num_units: int, efficiency: float) -> Hours:
    """The resource that is busy longest decides; to it come the start, and at the end half of the largest unit's way.

    Raises ReelmillError where products need GPUs and the cluster has none.
    """
    bounds = dict(_bounds(wholes, cluster, num_units))
    limited_by = max(bounds, key=lambda name: bounds[name].value)
    busy = certain(0)
    for bound in bounds.values():
        busy = busy.at_least(bound * (1 / efficiency))
    parallel = min(num_units, cluster.num_cores)
    way_s = sum(whole.largest_unit_s for whole in wholes) * (1 - 1 / parallel)
    middle = (busy + start_s(wholes) + TAIL * way_s).range
    wall_s = Range(low=max(0.0, middle.low - TAIL * way_s), value=middle.value, high=middle.high + (1 - TAIL) * way_s)
    return Hours(wall_s, limited_by, bounds[limited_by].value / efficiency / middle.value)


def _bounds(wholes: Sequence[Whole], cluster: Cluster, num_units: int) -> Iterator[tuple[str, Doubtful]]:
    """What may be busy longest, with the seconds that it is busy at least."""
    cores, on_gpu = core_s(wholes), [whole for whole in wholes if whole.device == "gpu"]
    feeding = sum((whole.cpu_s for whole in on_gpu), start=certain(0))
    if cluster.gpu_nodes:
        yield "gpu-cores", feeding * (1 / (cluster.gpu_nodes * cluster.cores))
    else:
        cores = cores + feeding
    yield "cores", cores * (1 / cluster.num_cores)
    if on_gpu:
        if not cluster.num_gpus:
            raise ReelmillError(f"{on_gpu[0].probe.product.path} runs on GPUs, and this cluster has none: give --gpus")
        yield "gpus", gpu_s(wholes) * (1 / cluster.num_gpus)
    for kind in ("clips", "flow", "features"):
        bounded = [whole for whole in wholes if whole.probe.product.kind == kind and whole.workers]
        if bounded:
            work = sum((whole.worker_s for whole in bounded), start=certain(0))
            yield f"pool {kind}", work * (1 / (bounded[0].workers or 1))
    if num_units < cluster.num_cores:
        for whole in wholes:
            if whole.device == "cpu" and whole.probe.cores_per_worker == 1:
                yield f"units {whole.probe.product.path}", whole.worker_s * (1 / num_units)


def cost(wall_s: Range, cluster: Cluster) -> Range | None:
    price = cluster.price_per_hour
    if price is None:
        return None
    return Range(**{name: getattr(wall_s, name) / 3600 * price for name in ("low", "value", "high")})


def scaled(
    wholes: Sequence[Whole], cluster: Cluster, *, num_units: int, efficiency: float, times: Sequence[int] = (1, 2, 4, 8)
) -> list[Scaled]:
    """The same work on more nodes."""
    found = []
    for factor in times:
        larger = cluster.model_copy(update={"nodes": cluster.nodes * factor, "gpu_nodes": cluster.gpu_nodes * factor})
        wall_s = hours(wholes, larger, num_units=num_units, efficiency=efficiency).wall_s
        found.append(Scaled(nodes=larger.nodes, gpu_nodes=larger.gpu_nodes, wall_s=wall_s, cost=cost(wall_s, larger)))
    return found


def bottleneck(wholes: Sequence[Whole], found: Hours) -> str:
    """One sentence: what decides the time."""
    of_cpu = [whole for whole in wholes if whole.device == "cpu"]
    of_gpu = [whole for whole in wholes if whole.device == "gpu"]
    busy = f"busy for {found.share:.0%} of the time"
    if found.limited_by == "gpus":
        return f"the GPUs, {busy}: {_heaviest(of_gpu, weighted=False)}; more GPUs shorten it"
    if found.limited_by == "cores":
        return f"the CPU cores, {busy}: {_heaviest(of_cpu, weighted=True)}; more cores shorten it"
    if found.limited_by == "gpu-cores":
        return f"the cores of the GPU nodes, {busy}: they decode what the GPUs take; larger GPU nodes shorten it"
    kind, _, name = found.limited_by.partition(" ")
    if kind == "pool":
        return f"the pool of {name} ({busy}): more pools.{name}.workers shorten it"
    return f"the number of units ({name}): fewer than cores; smaller units (units.videos_per_unit) shorten it"


def _heaviest(wholes: Sequence[Whole], *, weighted: bool) -> str:
    work = {
        whole.probe.product.path: whole.worker_s.value * (whole.probe.cores_per_worker if weighted else 1)
        for whole in wholes
    }
    most = max(work, key=lambda path: work[path])
    return f"{most} is {work[most] / max(sum(work.values()), 1e-9):.0%} of their work"


def puts(wholes: Sequence[Whole], num_units: int) -> float:
    """Requests that write to an object store: one a file, and for a large one its parts, their start and their end."""
    count = 0.0
    for whole in wholes:
        count += whole.objects
        data_bytes = whole.num_bytes.value / num_units  # nearly all of a unit is one file
        if data_bytes > PART_BYTES:
            count += num_units * (math.ceil(data_bytes / PART_BYTES) + 1)
    return count
