"""How much of the cores a run uses: the work of its stages over the time it takes, on 1, 2 and 3 nodes.

    python -m benchmarks.run_efficiency [--videos 192] [--nodes 1 2 3] [--cores N] [--folder DIR]

Makes videos, starts a Ray cluster of so many nodes on this machine, and runs clips, flow and features over all of them,
driven by a process of its own as a user's would be. Each node is bound to cores of its own, `--cores` of them (default:
this machine's, shared out; one at least). Nodes beyond the machine's cores share them in turn, so 3 nodes of one core
on two cores show what a third node costs, not what it gains: shares are always of real cores.

    wall    of the whole command: interpreter, imports, joining Ray, cards, units, the look at all receipts at the end
    slots   seconds that units of clips and flow took, over wall x CPUs of the cluster: how well slots are filled
    cores   CPU seconds of all stages' units and their decoders, over wall x cores in use: what the cores really did

Below each run stands what became of its core seconds in three parts: the start (until the first unit is taken up), the
middle, and the tail (from the moment when the last unit of any product was taken up). `work` is the CPU seconds of
units, `idle` is what the system says of these cores, and `rest` is all else: starting workers and models, Ray, the
driver. Run it alone: what others do on these cores counts as rest. Nothing is asserted. Goal: cores of 90 % or more on
a run of minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
STORE_BYTES = 128 << 20
SAMPLE_S = 0.25
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
WIDTHS = {"nodes": 6, "CPUs": 6, "cores": 6, "units": 7, "wall s": 9, "slots": 8, "cores used": 12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=192)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cores", type=int, help="of each node; default: this machine's, shared out")
    parser.add_argument("--folder", help="where videos and datasets go; default: the system's temporary folder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(drive(**json.loads(arguments.child))))
        return
    print(machine_line("ray", "av", "torch", "numba"))
    with tempfile.TemporaryDirectory(prefix="run_efficiency_", dir=arguments.folder) as folder:
        videos = make_videos(Path(folder) / "videos", arguments.videos)
        print("".join(f"{name:>{width}}" for name, width in WIDTHS.items()))
        for num_nodes in arguments.nodes:
            places = places_of(num_nodes, arguments.cores)
            found = on_cluster(places, videos, Path(folder) / f"out{num_nodes}")
            print("\n".join(report(places, found)), flush=True)


def make_videos(folder: Path, number: int) -> Path:
    from pipeline.synth import SynthSpec, make_dataset

    make_dataset(folder, SynthSpec(num_classes=4, videos_per_class=max(1, number // 4), duration_s=8.0))
    return folder / "trimmed" / "videos"


def places_of(num_nodes: int, cores: int | None) -> list[set[int]]:
    """The cores that each node is bound to."""
    have = sorted(os.sched_getaffinity(0))
    each = min(len(have), cores or max(1, len(have) // num_nodes))
    return [{have[(node * each + core) % len(have)] for core in range(each)} for node in range(num_nodes)]


# ---------------------------------------------------------------- one run


@dataclass
class Found:
    """One run as it was seen from outside and from its driver; all times by this machine's monotonic clock."""

    began_s: float
    ended_s: float
    idle: list[tuple[float, float]]  # (time, idle seconds of the cores in use until then)
    units: int
    began: list[float]  # when a unit of a product was taken up
    works: list[dict[str, Any]] = field(default_factory=list)  # product, ended_s, wall_s, cpu_s, opening_s

    @property
    def wall_s(self) -> float:
        return self.ended_s - self.began_s

    def cpu_s(self, since_s: float, until_s: float) -> float:
        """CPU seconds of units in a part of the run; a unit's are spread over its time."""
        total_s = 0.0
        for work in self.works:
            first_s, last_s = work["ended_s"] - work["wall_s"], work["ended_s"]
            overlap_s = min(last_s, until_s) - max(first_s, since_s)
            total_s += work["cpu_s"] * max(0.0, overlap_s) / max(work["wall_s"], 1e-9)
        return total_s

    def idle_s(self, since_s: float, until_s: float) -> float:
        def until(moment_s: float) -> float:
            return min(self.idle, key=lambda sample: abs(sample[0] - moment_s))[1]

        return until(until_s) - until(since_s)


def on_cluster(places: Sequence[set[int]], videos: Path, out: Path) -> Found:
    """One run on a fresh cluster, driven by a process of its own as a user's would be."""
    from ray.cluster_utils import Cluster

    def options(place: set[int]) -> dict[str, Any]:
        return {"num_cpus": len(place), "object_store_memory": STORE_BYTES}

    in_use = set().union(*places)
    with bound_to(places[0]):
        cluster = Cluster(initialize_head=True, head_node_args={**options(places[0]), "include_dashboard": False})
    try:
        for place in places[1:]:
            with bound_to(place):
                cluster.add_node(**options(place))
        cluster.wait_for_nodes()
        ask = json.dumps({"address": cluster.address, "videos": str(videos), "out": str(out)})
        command = [sys.executable, "-m", "benchmarks.run_efficiency", "--child", ask]
        with bound_to(in_use), idle_watched(in_use) as idle:
            began_s = time.monotonic()
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            ended_s = time.monotonic()
    finally:
        cluster.shutdown()
    if ended.returncode:
        sys.exit(ended.stderr[-3000:])
    return Found(began_s, ended_s, idle, **json.loads(ended.stdout.splitlines()[-1]))


@contextmanager
def bound_to(cores: set[int]) -> Iterator[None]:
    """What is started in the block keeps to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def idle_watched(cores: set[int]) -> Iterator[list[tuple[float, float]]]:
    """(time, idle seconds of these cores) several times a second for the time of the block."""
    samples = [(time.monotonic(), idle_until_now_s(cores))]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(SAMPLE_S):
            samples.append((time.monotonic(), idle_until_now_s(cores)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
        samples.append((time.monotonic(), idle_until_now_s(cores)))


def idle_until_now_s(cores: set[int]) -> float:
    """Since this machine started: idle, or waiting for a disk."""
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    rows = {name: values for name, *values in lines if name.startswith("cpu")}
    return sum(int(rows[f"cpu{core}"][3]) + int(rows[f"cpu{core}"][4]) for core in cores) / TICKS_PER_S


def drive(*, address: str, videos: str, out: str) -> dict[str, Any]:
    """What `reelmill run` does, and when each unit was taken up and stood."""
    from jobs.prepare import prepare
    from pipeline import runner
    from pipeline.survey import survey
    from schemas.config import Config
    from schemas.news import Began, News, Progress

    config = {
        "dataset": out,
        "source": {"kind": "directory", "videos": videos},
        "clips": {"rgb16": {"frames": 16, "fps": 8, "stride_s": 1.0, "resize": [128, 171]}},
        "flow": {"tvl1": {"clips": "rgb16", "resize": [64, 85]}},
        "features": {"c3d": {"from": "clips/rgb16", "model": "c3d", "weights": "random:0", "layer": "conv2a"}},
    }
    prepared = prepare(Config.model_validate(config))
    plan, store = prepared.plan, prepared.store
    began: list[float] = []
    works: list[dict[str, Any]] = []

    def hear(news: News) -> None:
        now_s = time.monotonic()
        if isinstance(news, Began):
            began.append(now_s)
        elif isinstance(news, Progress) and news.work is not None:
            measured = {name: getattr(news.work, name) for name in ("wall_s", "cpu_s", "opening_s")}
            works.append({"product": news.product, "ended_s": now_s, **measured})

    survey(store, plan)
    with runner.cluster(address=address):
        errors = runner.run_plan(plan, store, limits=prepared.config.limits, pending=plan.units, on_progress=hear)
    left = [state.path for state in survey(store, plan) if state.pending]
    if errors or left:
        sys.exit(f"units were not made: {errors[0].message if errors else left}")
    return {"units": len(plan.units), "began": began, "works": works}


# ---------------------------------------------------------------- what is said


def report(places: Sequence[set[int]], found: Found) -> list[str]:
    num_cpus, num_cores = sum(map(len, places)), len(set().union(*places))
    slots_s = sum(work["wall_s"] for work in found.works if not work["product"].startswith("features"))
    cpu_s = sum(work["cpu_s"] for work in found.works)
    values = (
        *(len(places), num_cpus, num_cores, found.units, f"{found.wall_s:.1f}"),
        *(f"{slots_s / (found.wall_s * num_cpus):.1%}", f"{cpu_s / (found.wall_s * num_cores):.1%}"),
    )
    lines = ["".join(f"{value:>{width}}" for value, width in zip(values, WIDTHS.values(), strict=True))]
    moments = {
        "start": (found.began_s, min(found.began)),
        "middle": (min(found.began), max(found.began)),
        "tail": (max(found.began), found.ended_s),
    }
    for name, (since_s, until_s) in moments.items():
        total_s = (until_s - since_s) * num_cores
        work_s, idle_s = found.cpu_s(since_s, until_s), found.idle_s(since_s, until_s)
        parts = {"work": work_s, "idle": idle_s, "rest": max(0.0, total_s - work_s - idle_s)}
        shares = ", ".join(f"{what} {one_s:.1f} s ({one_s / max(1e-9, total_s):.0%})" for what, one_s in parts.items())
        lines.append(f"    {name:<7}{until_s - since_s:7.1f} s of wall, {total_s:6.1f} s of cores: {shares}")
    for product in sorted({work["product"] for work in found.works}):
        some = [work for work in found.works if work["product"] == product]
        sums = {name: sum(work[name] for work in some) for name in ("cpu_s", "wall_s", "opening_s")}
        lines.append(
            f"    {product}: {sums['cpu_s']:.1f} s of CPU, {sums['wall_s']:.1f} s of workers, "
            f"opened in {sums['opening_s']:.1f} s of workers"
        )
    return lines


if __name__ == "__main__":
    main()
