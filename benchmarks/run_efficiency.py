"""How much of the cores a run uses: the work of its stages over the time it takes, on 1, 2 and 3 nodes.

    python -m benchmarks.run_efficiency [--videos 240] [--nodes 1 2] [--cores 1] [--folder DIR]

Makes videos, starts a Ray cluster of so many nodes of `--cores` CPUs each on this machine (nodes x cores beyond its
real cores would only share them, so 3 nodes want 3 cores), and runs clips, flow and features over all videos on it.
Each stage measures its own units (schemas.work): `busy` is computing, `wait` is for input and output. Of the run:

    wall       from asking for the products to the last receipt, cards and the start of workers included
    slots      seconds that units of clips and flow took, over wall x CPUs of the cluster: how well slots are filled
    cores      CPU seconds of all stages and their decoders, over wall x cores in use: what the cores really did

Nothing is asserted; a table comes out. Goal: slots of 90 % or more on a run of minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
STORE_BYTES = 128 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=240)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cores", type=int, default=1, help="CPUs of each node")
    parser.add_argument("--folder", help="where videos and datasets go; default: the system's temporary folder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(**json.loads(arguments.child))))
        return
    print(machine_line("ray", "av", "torch", "numba"))
    with tempfile.TemporaryDirectory(prefix="run_efficiency_", dir=arguments.folder) as folder:
        videos = make_videos(Path(folder) / "videos", arguments.videos)
        widths = {"nodes": 6, "CPUs": 6, "units": 7, "wall s": 9, "busy s": 9, "wait s": 9, "slots": 8, "cores": 8}
        print("".join(f"{name:>{width}}" for name, width in widths.items()) + "  by stage")
        for num_nodes in arguments.nodes:
            found = on_cluster(num_nodes, arguments.cores, videos, Path(folder) / f"out{num_nodes}")
            report(num_nodes, num_nodes * arguments.cores, found)


def make_videos(folder: Path, number: int) -> Path:
    from pipeline.synth import SynthSpec, make_dataset

    make_dataset(folder, SynthSpec(num_classes=4, videos_per_class=max(1, number // 4), duration_s=8.0))
    return folder / "trimmed" / "videos"


def on_cluster(num_nodes: int, cores: int, videos: Path, out: Path) -> dict[str, Any]:
    """One run on a fresh cluster, driven by a process of its own as a user's would be."""
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": cores, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**arguments, "include_dashboard": False})
    try:
        for _ in range(num_nodes - 1):
            cluster.add_node(**arguments)
        cluster.wait_for_nodes()
        ask = json.dumps({"address": cluster.address, "videos": str(videos), "out": str(out)})
        command = [sys.executable, "-m", "benchmarks.run_efficiency", "--child", ask]
        ended = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    finally:
        cluster.shutdown()
    if ended.returncode:
        sys.exit(ended.stderr[-3000:])
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measure(*, address: str, videos: str, out: str) -> dict[str, Any]:
    """Run everything; what each product's units took, by their own meters."""
    from jobs.prepare import prepare
    from pipeline import runner
    from schemas.config import Config
    from schemas.news import Progress

    config = {
        "dataset": out,
        "source": {"kind": "directory", "videos": videos},
        "clips": {"rgb16": {"frames": 16, "fps": 8, "stride_s": 1.0, "resize": [128, 171]}},
        "flow": {"tvl1": {"clips": "rgb16", "resize": [64, 85]}},
        "features": {"c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "random:0", "layer": "conv2a"}},
    }
    prepared = prepare(Config.model_validate(config))
    works: dict[str, list[Any]] = defaultdict(list)

    def hear(news: Any) -> None:
        if isinstance(news, Progress) and news.work is not None:
            works[news.product].append(news.work)

    with runner.cluster(address=address):
        began_s = time.monotonic()
        errors = runner.run_plan(
            prepared.plan, prepared.store, limits=prepared.config.limits, pending=prepared.plan.units, on_progress=hear
        )
        wall_s = time.monotonic() - began_s
    if errors:
        sys.exit(f"units were not made: {errors[0].message}")
    names = ("wall_s", "busy_s", "reading_s", "writing_s", "cpu_s")
    sums = {product: {n: sum(getattr(w, n) for w in some) for n in names} for product, some in works.items()}
    return {"wall_s": wall_s, "units": len(prepared.plan.units), "products": sums}


def report(num_nodes: int, num_cpus: int, found: dict[str, Any]) -> None:
    products, wall_s = found["products"], found["wall_s"]

    def total(*names: str, kinds: tuple[str, ...] = ("clips", "flow", "features")) -> float:
        return sum(float(sums[n]) for path, sums in products.items() for n in names if path.startswith(kinds))

    in_use = min(num_cpus, len(os.sched_getaffinity(0)))
    slots = total("wall_s", kinds=("clips", "flow")) / (wall_s * num_cpus)
    cores = total("cpu_s") / (wall_s * in_use)
    stages = ", ".join(f"{path} {sums['busy_s']:.0f} s" for path, sums in products.items())
    print(
        f"{num_nodes:>6}{num_cpus:>6}{found['units']:>7}{wall_s:>9.1f}{total('busy_s'):>9.1f}"
        f"{total('reading_s', 'writing_s'):>9.1f}{slots:>8.1%}{cores:>8.1%}  {stages}",
        flush=True,
    )


if __name__ == "__main__":
    main()
