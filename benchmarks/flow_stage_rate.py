"""The flow stage end to end on real videos: decode, TV-L1, jpeg, shard; the cpu backend beside the opencv one.

    python -m benchmarks.flow_stage_rate [VIDEO ...] [--cores 2] [--rounds 1]

One process a core, as `reelmill run` would use them; clips of 16 frames at 5 fps, their flow at 25 fps on frames with a
short side of 256 px. Both backends make the same videos' flow into a dataset of their own, in turn; the bytes of the
shards are compared. The clips that the windows come from are made before and not counted.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.flow_frames import real_videos
from benchmarks.machine import machine_line
from jobs.prepare import Prepared, prepare
from pipeline.receipts import write_card
from pipeline.stages import card_of, stage_module
from pipeline.survey import survey
from schemas.config import Config

FRAMES, CLIP_FPS, FLOW_FPS, SHORT_SIDE_PX = 16, 5, 25, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    videos = real_videos(arguments.videos)
    print(machine_line("numba", "opencv-contrib-python-headless", "av"))
    print(f"{len(videos)} videos, {arguments.cores} cores\n")
    with tempfile.TemporaryDirectory(prefix="flow_stage_rate_") as temporary:
        compare(videos, Path(temporary), arguments.cores, arguments.rounds)


def compare(videos: list[Path], work: Path, cores: int, rounds: int) -> None:
    folder = work / "videos"
    folder.mkdir()
    for number, video in enumerate(videos):
        (folder / f"{number:02d}_{video.name}").symlink_to(video.resolve())
    ratios = []
    for number in range(rounds):
        runs = {backend: work / f"{backend}_{number}" for backend in ("cpu", "opencv")}
        made = {backend: run(folder, out, backend, cores) for backend, out in runs.items()}
        seconds = {backend: elapsed_s for backend, (elapsed_s, _, _) in made.items()}
        _, num_clips, num_fields = made["cpu"]
        ratios.append(seconds["opencv"] / seconds["cpu"])
        for backend, elapsed_s in seconds.items():
            rate = f"{num_clips / elapsed_s * 3600:>8.0f} clips/hour, {num_fields / elapsed_s:>7.1f} fields/s"
            print(f"{backend:<8} {num_clips} clips, {num_fields} fields: {rate}", flush=True)
        print(f"same bytes in every shard: {shards(runs['cpu']) == shards(runs['opencv'])}")
        for out in runs.values():
            shutil.rmtree(out)
    print(f"\nthe stage with cpu is {statistics.median(ratios):.1f} times as fast as with opencv")


def shards(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(dataset.glob("flow/tvl1/flow-*.tar"))}


def run(folder: Path, out: Path, backend: str, cores: int) -> tuple[float, int, int]:
    """Seconds for the flow of all videos, clips and fields."""
    document = {
        "dataset": str(out),
        "source": {"kind": "directory", "videos": str(folder), "labels": "none"},
        "units": {"videos_per_unit": 1},
        "clips": {"rgb16": {"frames": FRAMES, "fps": CLIP_FPS, "short_side": SHORT_SIDE_PX}},
        "flow": {"tvl1": {"clips": "rgb16", "fps": FLOW_FPS, "backend": backend}},
    }
    prepared = prepare(Config.model_validate(document))
    elapsed_s = 0.0
    for product in prepared.plan.products:
        write_card(prepared.store, card_of(product, prepared.store))
    for kind in ("clips", "flow"):
        began_s = time.perf_counter()
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            list(pool.map(make_share, [prepared] * cores, range(cores), [cores] * cores, [kind] * cores))
        elapsed_s = time.perf_counter() - began_s
    made = {state.path: state for state in survey(prepared.store, prepared.plan)}["flow/tvl1"]
    if made.pending or made.rows["failed"]:
        raise SystemExit(f"work was left undone: {made}")
    num_clips = made.items
    return elapsed_s, num_clips, num_clips * round(FRAMES / CLIP_FPS * FLOW_FPS)


def make_share(prepared: Prepared, core: int, cores: int, kind: str) -> None:
    product = next(product for product in prepared.plan.products if product.kind == kind)
    stage = stage_module(kind).open_stage(product, prepared.store, prepared.config.limits)
    for unit in prepared.plan.units[core::cores]:
        stage(unit)
    stage.close()


if __name__ == "__main__":
    main()
