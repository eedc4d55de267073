"""From probes to the whole manifest, product by product."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.forecast.cluster import Load
from pipeline.forecast.fit import Doubtful, Total, certain, grows_with, ratio, total
from pipeline.forecast.probe import ProductProbe, VideoCost
from pipeline.graph import Unit
from schemas.errors import ReelmillError
from schemas.forecast import ProductForecast
from schemas.pools import Pool, Pools

PART_BYTES = 10 << 20  # of a multipart upload; pyarrow's smallest


@dataclass(frozen=True, slots=True)
class Whole:
    """A product over the whole manifest."""

    probe: ProductProbe
    load: Load
    grows_with: str
    items: Doubtful
    largest_items: float  # of a unit
    num_bytes: Doubtful
    objects: int
    is_given: bool  # its rate was stated


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
    """What each video's cost may grow with, as far as it is known of all of them: name -> (N,), all positive.

    The likelier ones come first: of one or two videos nobody can tell.
    """
    return dict(_columns(table))


def _columns(table: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    if not table["end_s"].null_count:
        seconds = pc.subtract(table["end_s"], pc.fill_null(table["start_s"], 0.0)).to_numpy()
        yield "seconds", np.maximum(1e-3, seconds)
    if not table["bytes"].null_count:
        yield "bytes", np.maximum(1.0, table["bytes"].to_numpy().astype(np.float64))
    if "segment_start_s" in table.schema.names:
        counts = pc.fill_null(pc.list_value_length(table["segment_start_s"]), 0).to_numpy()
        yield "segments", np.maximum(0.1, counts.astype(np.float64))
    yield "videos", np.ones(table.num_rows)


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
        pool = pools.of(probe.product.kind)
        if probe.product.kind == "features":
            source = wholes[next(iter(probe.product.upstream))]
            whole = _features(probe, source, manifest, rates.get(probe.product.name), pool)
        elif probe.product.kind == "flow":
            whole = _flow(probe, wholes[next(iter(probe.product.upstream))], manifest, pool)
        else:
            whole = _videos(probe, sample, manifest, pool)
        wholes[probe.product.path] = whole
    return list(wholes.values())


def _videos(probe: ProductProbe, sample: Mapping[str, np.ndarray], manifest: Manifest, pool: Pool) -> Whole:
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
        load=_load(
            probe,
            worker_s=work.whole + probe.unit_s * units,
            cpu_s=over("cpu_s", name).whole + probe.unit_cpu_s * units,
            largest_unit_s=work.largest_unit + probe.unit_s,
            pool=pool,
        ),
        grows_with=name,
        items=items.whole,
        num_bytes=best("num_bytes").whole + probe.unit_bytes * units,
        objects=probe.files_per_unit * units + 1,
        largest_items=items.largest_unit,
        is_given=False,
    )


def _flow(probe: ProductProbe, source: Whole, manifest: Manifest, pool: Pool) -> Whole:
    """By the clips that it is made of: how much moves in a few videos would hide how the cost grows with length."""
    of_source = {video.video: video.items for video in source.probe.videos}
    videos = [video for video in probe.videos if of_source[video.video]]  # the others cost nothing beside their unit
    if not videos:
        raise ReelmillError(f"{probe.product.path}: not one video that was looked at gave a clip; run it to see why")
    weight = _of(videos, "weight")
    clips = weight * np.array([of_source[video.video] for video in videos], np.float64)
    units = manifest.num_units

    def per_clip(name: str) -> Doubtful:
        return ratio(weight * _of(videos, name), clips)

    worker_s, items = per_clip("worker_s"), per_clip("items")
    return Whole(
        probe=probe,
        load=_load(
            probe,
            worker_s=source.items * worker_s + probe.unit_s * units,
            cpu_s=source.items * per_clip("cpu_s") + probe.unit_cpu_s * units,
            largest_unit_s=source.largest_items * worker_s.value + probe.unit_s,
            pool=pool,
        ),
        grows_with="clips",
        items=source.items * items,
        num_bytes=source.items * per_clip("num_bytes") + probe.unit_bytes * units,
        objects=probe.files_per_unit * units + 1,
        largest_items=source.largest_items * items.value,
        is_given=False,
    )


def _of(costs: Sequence[VideoCost], name: str) -> np.ndarray:
    return np.array([getattr(cost, name) for cost in costs], np.float64)


def _features(probe: ProductProbe, source: Whole, manifest: Manifest, rate: float | None, pool: Pool) -> Whole:
    """`rate`: clips a second on one GPU, where that is given and not measured."""
    if not probe.batches:
        raise ReelmillError(f"{probe.product.path}: not one clip that was looked at gave features; run it to see why")
    clips = np.array([batch.clips for batch in probe.batches], np.float64)
    units = manifest.num_units
    filled = units * (1 - _lost(source.probe) ** (manifest.num_rows / units))  # units that have rows

    def per_clip(name: str) -> Doubtful:
        return ratio(np.array([getattr(batch, name) for batch in probe.batches], np.float64), clips)

    worker_s = per_clip("worker_s") if rate is None else certain(1 / rate)
    cpu_s = per_clip("cpu_s") if rate is None else certain(0)
    return Whole(
        probe=probe,
        load=_load(
            probe,
            worker_s=source.items * worker_s + probe.unit_s * units,
            cpu_s=source.items * cpu_s + probe.unit_cpu_s * units,
            largest_unit_s=source.largest_items * worker_s.value + probe.unit_s,
            pool=pool,
        ),
        grows_with="clips",
        items=source.items * per_clip("rows"),
        num_bytes=source.items * per_clip("num_bytes") + probe.unit_bytes * units + probe.filled_bytes * filled,
        objects=probe.files_per_unit * units + 1,
        largest_items=0.0,
        is_given=rate is not None,
    )


def _lost(probe: ProductProbe) -> float:
    """The share of videos that give nothing."""
    weight = _of(probe.videos, "weight")
    return float(weight[_of(probe.videos, "items") == 0].sum() / weight.sum())


def _load(probe: ProductProbe, *, worker_s: Doubtful, cpu_s: Doubtful, largest_unit_s: float, pool: Pool) -> Load:
    is_model = probe.product.kind == "features"
    return Load(
        product=probe.product.path,
        device=probe.device,
        # a task that asks for more cores than it keeps busy keeps others off them
        cores_per_worker=probe.cores_per_worker * (1.0 if is_model or pool.cpus is None else pool.cpus),
        worker_s=worker_s,
        cpu_s=cpu_s,
        open_s=probe.open_s,
        largest_unit_s=largest_unit_s,
        workers=pool.workers,
    )


def product_forecast(whole: Whole) -> ProductForecast:
    load = whole.load
    return ProductForecast(
        product=load.product,
        fingerprint=whole.probe.product.fingerprint,
        device=load.device,
        cores_per_worker=load.cores_per_worker,
        source="given" if whole.is_given else "measured",
        num_probes=len(whole.probe.videos or whole.probe.batches),
        grows_with=whole.grows_with,
        worker_s=load.worker_s.range,
        cpu_s=load.cpu_s.range,
        items=whole.items.range,
        bytes=whole.num_bytes.range,
        objects=whole.objects,
        open_s=load.open_s,
        open_cpu_s=whole.probe.open_cpu_s,
        largest_unit_s=load.largest_unit_s,
        workers=load.workers,
    )


def puts(wholes: Sequence[Whole], num_units: int) -> float:
    """Requests that write to an object store: one a file, and for a large one its parts, their start and their end."""
    count = 0.0
    for whole in wholes:
        count += whole.objects
        data_bytes = whole.num_bytes.value / num_units  # nearly all of a unit is one file
        if data_bytes > PART_BYTES:
            count += num_units * (math.ceil(data_bytes / PART_BYTES) + 1)
    return count
