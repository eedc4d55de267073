"""The worked table of docs/planning.md: Kinetics-400 and Sports-1M on 1, 8 and 64 nodes, from what is measured here.

    python -m benchmarks.plan_tables [--check]

Times every stage of a two-stream config on real videos of ../shared/data/videos (two of Kinetics; four from YouTube
for Sports-1M), with random weights, which cost what real ones cost. The manifests are made up: so many videos of such
lengths as the datasets have. Rewrites the lines between the markers in docs/planning.md; --check only prints them.
Takes four minutes on two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.page import put
from jobs.prepare import hash_files
from jobs.quantities import PLAIN, SIZES, TIMES, show
from pipeline.forecast.forecast import Probes, forecast, probe
from pipeline.forecast.lengths import lengths_s
from pipeline.forecast.machine import gpus_here, machine_name
from pipeline.graph import make_plan
from pipeline.stages import CODE_VERSIONS
from pipeline.units import plan_units
from schemas.config import Config
from schemas.forecast import Cluster, Forecast, Range
from schemas.manifest import MANIFEST_SCHEMA

SHARED = Path(__file__).resolve().parents[2] / "shared/data/videos"
CORES, GPUS, NODES = 32, 4, (1, 8, 64)
# an assumption for the reader to replace, never a measurement: clips a second on one GPU
GPU_RATES = {"c3d": 900.0, "i3d_rgb": 150.0, "i3d_flow": 150.0}
BUDGET_S = 90.0  # of timing, for each of the two


@dataclass(frozen=True)
class Dataset:
    name: str
    num_videos: int
    mean_s: float
    sigma: float  # of the logarithm of the lengths; 0: all alike
    probes: tuple[str, ...]
    says: str


DATASETS = (
    Dataset(
        "Kinetics-400",
        306_245,
        10.0,
        0.0,
        ("kinetics/R6llTwEh07w.mp4", "kinetics/SOX5yA1l24A.mp4"),
        "306,245 videos of 10 s",
    ),
    Dataset(
        "Sports-1M",
        1_133_158,
        336.0,
        0.8,
        (
            "long/women_long_jump.mp4",
            "activitynet/v_GGSY1Qvo990.mp4",
            "kinetics/R6llTwEh07w.mp4",
            "kinetics/SOX5yA1l24A.mp4",
        ),
        "1,133,158 videos of 336 s on average (log-normal, sigma 0.8, none over two hours)",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print the tables and leave the page as it is")
    arguments = parser.parse_args()
    if not SHARED.exists():
        sys.exit(f"{SHARED}: the real videos that this table is measured on are not here")
    here = gpus_here()
    lines = [f"Measured on {machine_name(here)}, all cores busy.", ""]
    for dataset in DATASETS:
        lines += section(dataset, has_gpu=bool(here))
    print("\n".join(lines))
    if not arguments.check:
        put("planning.md", "plan_tables", ["", *lines])


def section(dataset: Dataset, *, has_gpu: bool) -> list[str]:
    """The lines of one dataset: its products, and its hours."""
    real, whole = real_manifest(dataset), made_up(dataset)
    config = two_stream()
    plan = make_plan(config, plan_units(real, 1), code_version=CODE_VERSIONS.__getitem__, sha256=hash_files)
    probes = probe(config, plan, real, num_videos=real.num_rows, budget_s=BUDGET_S, has_gpu=has_gpu, rates={}, tell=say)
    units = plan_units(whole, config.units.size(whole.num_rows), bytes_per_unit=config.units.bytes_per_unit)

    def on(nodes: int, *, with_gpus: bool, of: Config = config) -> Forecast:
        rates = {name: rate for name, rate in GPU_RATES.items() if name in of.features} if with_gpus else {}
        cluster = Cluster(nodes=nodes, cores=CORES, gpus=GPUS if with_gpus or has_gpu else 0)
        some = only(probes, of, rated=rates)
        return forecast(some, of, whole, units, cluster, machine="", rates=rates)

    lines = [f"### {dataset.name}", "", f"{dataset.says}, {show(int(pa_sum(whole)), SIZES)}.", ""]
    lines += [*products_table(on(1, with_gpus=False), on(1, with_gpus=True)), ""]
    lines += ["| nodes | RGB, CPUs | RGB, with GPUs | both, CPUs | both, with GPUs |", "|--:|--:|--:|--:|--:|"]
    rgb = two_stream(flow=False)
    for nodes in NODES:
        found = [on(nodes, with_gpus=gpus, of=of).wall_s for of in (rgb, config) for gpus in (False, True)]
        lines.append(f"| {nodes} | " + " | ".join(_hours(wall_s) for wall_s in found) + " |")
    return [*lines, "", f"With flow, what decides on 8 nodes with GPUs: {on(8, with_gpus=True).bottleneck}.", ""]


def only(probes: Probes, config: Config, *, rated: dict[str, float]) -> Probes:
    """The probes of a config's products; those whose rate is given are of a GPU."""
    wanted = {f"{kind}/{name}" for kind in ("clips", "flow", "features") for name in getattr(config, kind)}
    products = [product for product in probes.products if product.product.path in wanted]
    as_rated = {"device": "gpu", "cores_per_worker": 0, "unit_s": 0.0, "unit_cpu_s": 0.0}
    return replace(
        probes,
        products=tuple(
            replace(product, **as_rated) if product.product.name in rated else product  # type: ignore[arg-type]
            for product in products
        ),
    )


def products_table(cpu: Forecast, gpu: Forecast) -> list[str]:
    lines = [
        "| product | core-hours | GPU-hours, at the rate assumed | items | stored | files |",
        "|:--|--:|--:|--:|--:|--:|",
    ]
    for product, on_gpu in zip(cpu.products, gpu.products, strict=True):
        core_h = product.worker_s.value * product.cores_per_worker / 3600
        gpu_h = show(on_gpu.worker_s.value / 3600, PLAIN) if on_gpu.source == "given" else "–"
        lines.append(
            f"| {product.product} | {core_h:,.0f} | {gpu_h} | {product.items.value:,.0f} | "
            f"{show(product.bytes.value, SIZES)} | {product.objects:,} |"
        )
    total = f"| **all**, {cpu.num_units:,} units | {cpu.core_s.value / 3600:,.0f} | {gpu.gpu_s.value / 3600:,.0f} | "
    return [*lines, f"{total} | {show(cpu.bytes.value, SIZES)} | {cpu.objects:,} |"]


def _hours(wall_s: Range) -> str:
    return show(wall_s.value, TIMES)


def two_stream(*, flow: bool = True) -> Config:
    """C3D on clips of 16 frames, and the two streams of I3D on clips of 64."""
    document = {
        "dataset": "unused",
        "source": {"kind": "directory", "videos": "unused"},
        "clips": {
            "rgb16": {"frames": 16, "fps": 5, "resize": [128, 171]},
            "i3d64": {"frames": 64, "fps": 25, "short_side": 256},
        },
        "flow": {"tvl1": {"clips": "i3d64", "bound": 20}},
        "features": {
            "c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "random:0"},
            "i3d_rgb": {"from": "clips/i3d64", "model": "i3d_rgb", "weights": "random:0"},
            "i3d_flow": {"from": "flow/tvl1", "model": "i3d_flow", "weights": "random:0"},
        },
    }
    if not flow:
        del document["flow"]
        del document["features"]["i3d_flow"]  # type: ignore[attr-defined]
    return Config.model_validate(document)


def real_manifest(dataset: Dataset) -> pa.Table:
    paths = [SHARED / name for name in dataset.probes]
    lengths = lengths_s([str(path) for path in paths])
    return manifest([str(path) for path in paths], np.array(lengths, float), [path.stat().st_size for path in paths])


def made_up(dataset: Dataset) -> pa.Table:
    """A manifest of the dataset's size: lengths drawn from seed 0, bytes as the real videos have them a second."""
    real = real_manifest(dataset)
    rate = pa_sum(real) / sum(real["end_s"].to_pylist())
    normal = np.random.default_rng(0).normal(size=dataset.num_videos)
    lengths = np.minimum(7200, dataset.mean_s * np.exp(dataset.sigma * normal - dataset.sigma**2 / 2))
    uris = [f"/videos/{number:07d}.mp4" for number in range(dataset.num_videos)]
    return manifest(uris, lengths, (lengths * rate).astype(int).tolist())


def manifest(uris: list[str], lengths: np.ndarray, num_bytes: list[int]) -> pa.Table:
    count = len(uris)
    columns = {field.name: pa.nulls(count, field.type) for field in MANIFEST_SCHEMA}
    columns |= {
        "video_id": pa.array([Path(uri).stem for uri in uris]),
        "uri": pa.array(uris),
        "labels": pa.array([[]] * count, pa.list_(pa.string())),
        "label_ids": pa.array([[]] * count, pa.list_(pa.int32())),
        "start_s": pa.array(np.zeros(count)),
        "end_s": pa.array(lengths),
        "bytes": pa.array(num_bytes, pa.int64()),
    }
    return pa.Table.from_pydict(columns, schema=MANIFEST_SCHEMA)


def pa_sum(table: pa.Table) -> float:
    return float(table["bytes"].to_numpy().sum())


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
