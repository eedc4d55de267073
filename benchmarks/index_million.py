"""How long, and in how much memory, a million Kinetics rows are indexed and planned.

    python -m benchmarks.index_million [--rows 1000000] [--folder DIR]

Makes a Kinetics csv and a folder with a file per row (empty ones, since indexing opens no video), one folder per
class as Kinetics has it. Then a fresh process reads the csv, lists the folder, matches the two, writes the manifest,
reads it back and plans units of 64. Bar: under 60 s and under 2 GB resident. Nothing is asserted; a table comes out.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 400
STEPS = ("import", "index", "write", "plan")
ID_LETTERS = string.ascii_letters + string.digits + "_-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where to make the files; default: the system's temporary folder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(Path(arguments.child))
        return
    folder = Path(tempfile.mkdtemp(prefix="index_million_", dir=arguments.folder))
    try:
        start_s = time.perf_counter()
        make_dataset(folder, arguments.rows)
        print(f"made {arguments.rows:,} files in {time.perf_counter() - start_s:.0f} s in {folder}", flush=True)
        report(run_child(folder))
    finally:
        shutil.rmtree(folder)


def make_dataset(folder: Path, num_rows: int) -> None:
    """`train.csv` and `videos/<label>/<id>_000417_000427.mp4`, rows in an order of their own."""
    random_ids = random.Random(0)
    labels = [f"doing thing {number:03d}" for number in range(NUM_CLASSES)]
    for label in labels:
        (folder / "videos" / label).mkdir(parents=True)
    with (folder / "train.csv").open("w") as csv:
        csv.write("label,youtube_id,time_start,time_end,split,is_cc\n")
        for row in range(num_rows):
            youtube_id = "".join(random_ids.choices(ID_LETTERS, k=11))
            label, start_s = labels[row % NUM_CLASSES], row % 600
            csv.write(f'"{label}",{youtube_id},{start_s},{start_s + 10},train,0\n')
            (folder / "videos" / label / f"{youtube_id}_{start_s:06d}_{start_s + 10:06d}.mp4").touch()


def run_child(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.index_million", "--child", str(folder)]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT, text=True)
    return dict(json.loads(result.stdout))


def measure(folder: Path) -> None:
    """Index and plan, in this process; prints seconds by step and peak memory as JSON."""
    clock, peaks_mb = [time.perf_counter()], []

    def step_done() -> None:
        clock.append(time.perf_counter())
        peaks_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)

    from pipeline.sources import index_source
    from pipeline.store import Store
    from pipeline.units import plan_units, read_manifest, write_manifest
    from schemas.sources import KineticsSource

    step_done()
    source = KineticsSource(kind="kinetics", csv=str(folder / "train.csv"), videos=str(folder / "videos"))
    indexed = index_source(source)
    step_done()
    store = Store(str(folder / "out"))
    write_manifest(store, indexed.table)
    step_done()
    counts = {"rows": indexed.table.num_rows, "issues": indexed.issues.num_rows}
    del indexed
    counts["units"] = len(plan_units(read_manifest(store), 64))
    step_done()
    steps = [
        {"step": name, "seconds": stop - start, "peak_mb": peak_mb}
        for name, start, stop, peak_mb in zip(STEPS, clock, clock[1:], peaks_mb, strict=False)
    ]
    steps.append({"step": "total", "seconds": clock[-1] - clock[0], "peak_mb": peaks_mb[-1]})
    print(json.dumps({"counts": counts, "steps": steps}))


def report(result: dict[str, Any]) -> None:
    print(machine_line("pyarrow"))
    print(", ".join(f"{count:,} {name}" for name, count in result["counts"].items()))
    print(f"{'step':>8} {'seconds':>8} {'peak MB so far':>15}")
    for step in result["steps"]:
        print(f"{step['step']:>8} {step['seconds']:>8.1f} {step['peak_mb']:>15,.0f}")


if __name__ == "__main__":
    main()
