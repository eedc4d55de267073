"""How fast, and in how much memory of the driver, units go through the runner when their stages do nothing.

    python -m benchmarks.drain_units [--units 100000] [--workers 2] [--folder DIR]

A manifest of ten rows a unit is planned, and all of its units go through `run_plan` on a local Ray: clips as tasks,
features as an actor, both of `fake_stages`, which return a receipt and write nothing. So all that is left is what Ray,
the runner, its news and its record cost. A line per tenth: units/s of that tenth, and the memory of the driver and of
Ray's own processes and workers. Bar: a steady rate, and under 2 GB in the driver. Nothing is asserted; a table comes
out. Units that take no time go through Ray in bundles (pipeline/runner/bundle.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
FAKES = ROOT / "benchmarks" / "fake_stages"
ROWS_PER_UNIT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", help="where the dataset goes; default: the system's temporary folder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        drain(arguments.child, arguments.units, arguments.workers)
        return
    print(machine_line("ray", "pyarrow"))
    with tempfile.TemporaryDirectory(prefix="drain_units_", dir=arguments.folder) as folder:
        paths = os.pathsep.join([str(FAKES), str(ROOT), os.environ.get("PYTHONPATH", "")])
        options = ["--units", str(arguments.units), "--workers", str(arguments.workers), "--child", folder]
        command = [sys.executable, "-m", "benchmarks.drain_units", *options]
        sys.exit(subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, cwd=ROOT, check=False).returncode)


def drain(folder: str, num_units: int, num_workers: int) -> None:
    """In a process of its own, whose memory is the driver's."""
    from pipeline import runner
    from pipeline.graph import Plan, Product
    from pipeline.store import Store
    from pipeline.units import plan_units, read_manifest, write_manifest
    from schemas.config import Limits

    store = Store(folder)
    write_manifest(store, manifest(num_units * ROWS_PER_UNIT))
    began_s = time.monotonic()
    units = plan_units(read_manifest(store), ROWS_PER_UNIT, bytes_per_unit=10**12)
    print(f"planned {len(units):,} units in {time.monotonic() - began_s:.1f} s; {resident()}", flush=True)
    clips = Product("clips", "none", {}, {}, 1)
    features = Product("features", "none", {}, {clips.path: clips.fingerprint}, 1)
    plan, tenths = Plan((clips, features), tuple(units)), Tenths(features.path, num_units)
    with (
        runner.cluster(workers=num_workers),
        runner.watching(plan, store, pending=units, config_sha256="", listener=tenths) as watch,
    ):
        began_s = time.monotonic()
        errors = runner.run_plan(plan, store, limits=Limits(), pending=units, on_progress=watch.hear)
    print(f"drained in {time.monotonic() - began_s:.0f} s, {len(errors)} errors; at most {peak()}", flush=True)


def manifest(num_rows: int) -> Any:
    import pyarrow as pa

    from schemas.manifest import MANIFEST_SCHEMA

    columns = {
        "video_id": [f"v{row:07d}" for row in range(num_rows)],
        "uri": [f"s3://bucket/videos/{row:07d}.mp4" for row in range(num_rows)],
        "split": ["train"] * num_rows,
        "labels": [["a"]] * num_rows,
        "label_ids": [[0]] * num_rows,
        "start_s": [None] * num_rows,
        "end_s": [None] * num_rows,
        "bytes": [1_000_000 + 7919 * row % 999_983 for row in range(num_rows)],
        "etag": ["x"] * num_rows,
    }
    return pa.table(columns, schema=MANIFEST_SCHEMA)


class Tenths:
    """Prints a line whenever another tenth of the units has come out of the last product."""

    def __init__(self, last_product: str, num_units: int) -> None:
        self._last_product = last_product
        self._step = max(1, num_units // 10)
        self._done = 0
        self._first_s = self._since_s = time.monotonic()

    def __call__(self, news: Any) -> None:
        from schemas.news import Progress

        if not isinstance(news, Progress) or news.product != self._last_product:
            return
        self._done += 1
        if self._done == 1:
            print(f"the first unit was through after {time.monotonic() - self._first_s:.1f} s", flush=True)
        if self._done % self._step == 0:
            now = time.monotonic()
            rate = self._step / (now - self._since_s)
            print(f"{self._done:>8,} units  {rate:6.1f} units/s  {resident()}  {of_ray()}", flush=True)
            self._since_s = now


def resident() -> str:
    return f"{_mib(Path('/proc/self')):.0f} MiB resident"


def of_ray() -> str:
    """`(Ray: gcs_server 58, raylet 34, 11 others 1604 MiB)`: of the processes that this one started, and theirs."""
    gcs_server = raylet = others = 0.0
    count = 0
    for process in _descendants(os.getpid()):
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            mib, name = _mib(process), (process / "comm").read_text().strip()
            if name == "gcs_server":
                gcs_server = mib
            elif name == "raylet":
                raylet = mib
            else:
                count, others = count + 1, others + mib
    return f"(Ray: gcs_server {gcs_server:.0f}, raylet {raylet:.0f}, {count} others {others:.0f} MiB)"


def _descendants(pid: int) -> list[Path]:
    """The folders under /proc of all that a process has started, at any depth."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (thread / "children").read_text().split():
                found += [Path("/proc", child), *_descendants(int(child))]
    return found


def _mib(process: Path) -> float:
    """Resident, of a process by its folder under /proc."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"


if __name__ == "__main__":
    main()
