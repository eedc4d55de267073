"""A plan's numbers, from the manifest and a sample of its videos."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.forecast import predict
from pipeline.forecast.bench import WHOLE_S, lay_out
from pipeline.forecast.cluster import bottleneck, core_s, cost, gpu_s, hours, scaled
from pipeline.forecast.fit import certain
from pipeline.forecast.lengths import lengths_s
from pipeline.forecast.probe import Prober, ProductProbe
from pipeline.forecast.sample import pick
from pipeline.graph import Plan, Unit
from pipeline.threads import num_cores
from schemas.config import Clips, Config
from schemas.errors import UsageError
from schemas.forecast import Cluster, Forecast

RAY_START_S = 6.0  # of a local Ray; joining a cluster takes less
EFFICIENCY = 0.9  # of the work that a busy resource could do in the time, what it does


@dataclass(frozen=True, slots=True)
class Probes:
    """What was measured here."""

    products: tuple[ProductProbe, ...]
    sample: Mapping[str, np.ndarray]  # what the cost of a video may grow with -> of each video of the sample
    num_videos: int
    took_s: float


def probe(
    config: Config,
    plan: Plan,
    manifest: pa.Table,
    *,
    num_videos: int,
    budget_s: float,
    has_gpu: bool,
    rates: Mapping[str, float],
    tell: Callable[[str], None] = lambda words: None,
) -> Probes:
    """Time every product but the heads on a sample of the manifest, in a temporary folder that goes away.

    `budget_s` is for all products together. Raises UsageError where there is nothing to time, ReelmillError where a
    stage can't be opened and where no video of the sample can be used.
    """
    began_s = time.perf_counter()
    products = [product for product in plan.products if product.kind != "heads"]
    if not products:
        raise UsageError("this config makes no clips, flow or features: there is nothing to predict")
    picked = pick(np.nan_to_num(manifest["bytes"].to_numpy(zero_copy_only=False).astype(np.float64)), num_videos)
    clips = [Clips.model_validate(product.settings) for product in products if product.kind == "clips"]
    # where there are more cores than half the sample, each video is made several times, so that all are busy
    rounds = max(1, -(-2 * num_cores() // len(picked))) if num_cores() > len(picked) / 2 else 1
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as folder:
        tell(f"looking at {len(picked)} of {manifest.num_rows} videos")
        bench = lay_out(folder, manifest, picked, clips=clips, rounds=rounds, lengths_s=lengths_s)
        prober = Prober(
            bench,
            limits=config.limits,
            budget_s=budget_s / len(products),
            has_gpu=has_gpu,
            rated=rates,
        )
        measured = []
        for product in products:
            tell(f"timing {product.path}")
            measured.append(prober.probe(product))
    rows = [one.row for one in picked]
    sample = {name: column[rows] for name, column in predict.sizes_of(manifest).items()}
    return Probes(tuple(measured), sample, len(picked), time.perf_counter() - began_s)


def forecast(
    probes: Probes,
    config: Config,
    manifest: pa.Table,
    units: Sequence[Unit],
    cluster: Cluster,
    *,
    machine: str,
    rates: Mapping[str, float],
    efficiency: float = EFFICIENCY,
) -> Forecast:
    """The prediction for a manifest: the one that was probed, or another whose videos are like it."""
    seen = predict.manifest_of(manifest, units)
    wholes = predict.predict(probes.products, probes.sample, seen, rates=rates, pools=config.pools)
    loads = [whole.load for whole in wholes]
    before_s = RAY_START_S + sum(product.card_s for product in probes.products)
    work: dict[str, Any] = {"num_units": seen.num_units, "efficiency": efficiency, "before_s": before_s}
    found = hours(loads, cluster, **work)
    sizes = manifest["bytes"].to_numpy(zero_copy_only=False).astype(np.float64)
    return Forecast(
        machine=machine,
        num_videos=seen.num_rows,
        source_bytes=int(np.nansum(sizes)),
        num_units=seen.num_units,
        num_probed=probes.num_videos,
        num_probes_failed=max((product.num_lost for product in probes.products), default=0),
        probing_s=probes.took_s,
        cluster=cluster,
        efficiency=efficiency,
        before_s=before_s,
        products=tuple(map(predict.product_forecast, wholes)),
        wall_s=found.wall_s,
        core_s=core_s(loads).range,
        gpu_s=gpu_s(loads).range,
        bytes=sum((whole.num_bytes for whole in wholes), start=certain(0)).range,
        objects=sum(whole.objects for whole in wholes),
        puts=predict.puts(wholes, seen.num_units),
        cost=cost(found.wall_s, cluster),
        bottleneck=bottleneck(loads, found, num_videos=seen.num_rows, num_units=seen.num_units),
        scaled=tuple(scaled(loads, cluster, **work)),
        assumptions=tuple(_assumptions(probes, config, wholes, efficiency)),
    )


def _assumptions(probes: Probes, config: Config, wholes: Sequence[predict.Whole], efficiency: float) -> list[str]:
    lines = [
        f"a core of the cluster does what a core of this machine does with all {num_cores()} of them busy",
        f"what is busy all the time does {efficiency:.0%} of what it could (--efficiency)",
        "the probes wrote to a local folder: where the dataset is on an object store, uploading comes on top of it",
    ]
    if any(Clips.model_validate(clips).windows == "stride" for clips in config.clips.values()):
        lines.append(f"the rest of a video of more than {1.5 * WHOLE_S:g} s is like its first {WHOLE_S:g} s")
    features = [whole for whole in wholes if whole.probe.product.kind == "features"]
    given = [whole.probe.product.name for whole in features if whole.is_given]
    if given:
        lines.append(f"GPU rates were given, not measured: {', '.join(given)}; what their inputs cost CPUs is left out")
    on_cpu = [whole for whole in features if whole.load.device == "cpu"]
    if on_cpu:
        lines.append(
            "no GPU here: features counted as CPU work, a model on each node; "
            f"give --gpu-rate {on_cpu[0].probe.product.name}=CLIPS_PER_S to have them on GPUs"
        )
    single = [whole.load.product for whole in features if len(whole.probe.batches) == 1 and not whole.is_given]
    if single:
        lines.append(f"all clips take a model as long as the one batch that was timed: {', '.join(single)}")
    if any(whole.load.device == "gpu" and not whole.is_given for whole in wholes):
        lines.append("a GPU of the cluster does what the GPU of this machine does")
    if config.heads:
        lines.append(f"training, which `run` does at the end, is not predicted: {', '.join(config.heads)}")
    return lines
