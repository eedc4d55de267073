"""Decode-to-clips beside the ffmpeg command line doing the same sampling and resize, on the same videos and cores.

    python -m benchmarks.clips_rate [VIDEO or FOLDER ...] [--rounds 3] [--cores 2]

Both run one process per core, each with one thread, and take the videos in the same order. ffmpeg writes one jpeg
a sampled frame (`fps=5:round=down,scale=171:128`, bilinear); reelmill writes
WebDataset shards with index, ledger and receipts. The two alternate, and each round's ratio is of neighbours in time.
Without arguments it uses the real videos of ../shared/data/videos where that folder is, else synthetic ones.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import imageio_ffmpeg

from benchmarks.machine import machine_line
from jobs.prepare import Prepared, prepare
from pipeline.sources.listing import is_video_name
from pipeline.stages.clips import open_stage
from pipeline.survey import survey
from pipeline.synth import SynthSpec, make_dataset
from schemas.config import Config

SHARED = Path(__file__).resolve().parents[2] / "shared/data/videos"
FILES_PER_GROUP = 200
FPS, HEIGHT_PX, WIDTH_PX, FRAMES = 5, 128, 171, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    print(machine_line("av", "opencv-contrib-python-headless"))
    print(f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}, {arguments.cores} cores, {arguments.rounds} rounds\n")
    with tempfile.TemporaryDirectory(prefix="clips_rate_") as temporary:
        work = Path(temporary)
        groups = given(arguments.videos) if arguments.videos else standard_groups(work)
        print(f"{'videos':<34} {'files':>5} {'ffmpeg s':>9} {'reelmill s':>10} {'ratio (>1: reelmill faster)':>30}")
        for name, paths in groups.items():
            compare(name, paths, work / name.replace(" ", "_"), arguments.rounds, arguments.cores)


def given(arguments: list[Path]) -> dict[str, list[Path]]:
    found: list[Path] = []
    for argument in arguments:
        inside = sorted(path for path in argument.rglob("*") if is_video_name(path.name))
        found += inside if argument.is_dir() else [argument]
    return {"given": found}


def standard_groups(work: Path) -> dict[str, list[Path]]:
    """Short, small videos as the datasets have them; one long HD video; a hundred synthetic ones."""
    make_dataset(work / "synth", SynthSpec(num_classes=4, videos_per_class=10))
    groups = {"synthetic 176x144, 4 s": sorted((work / "synth/trimmed/videos").rglob("*.mp4"))}
    if SHARED.exists():
        short = [
            p for folder in ("kinetics", "ucf101", "hmdb51", "activitynet") for p in sorted((SHARED / folder).iterdir())
        ]
        groups["real, 240-256 lines, 2-18 s"] = short
        groups["kinetics only, 340x256, 10 s"] = sorted((SHARED / "kinetics").iterdir())
        groups["1080p h264, 122 s, one per core"] = [SHARED / "long/hd_1080p_122s.mp4"]
    return groups


def compare(name: str, paths: list[Path], work: Path, rounds: int, cores: int) -> None:
    # groups are done over and over until they are some seconds of work: starting up should not decide
    repeats = cores if "1080p" in name else max(1, FILES_PER_GROUP // len(paths))
    videos = link_all(paths, repeats, work / "videos")
    theirs, ours = [], []
    for round_number in range(rounds + 1):  # the first round warms the page cache and is not counted
        a = time_ffmpeg(sorted(videos.iterdir()), work / "ffmpeg", cores)
        b = time_reelmill(videos, work / "reelmill", cores)
        if round_number:
            theirs.append(a)
            ours.append(b)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    spread = f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} - {max(ratios):.2f})"
    count = len(list(videos.iterdir()))
    print(
        f"{name:<34} {count:>5} {statistics.median(theirs):>9.2f} {statistics.median(ours):>10.2f} {spread:>30}",
        flush=True,
    )


def link_all(paths: list[Path], repeats: int, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(repeats):
        for position, path in enumerate(paths):
            (folder / f"{number:02d}_{position:03d}{path.suffix}").symlink_to(path.resolve())
    return folder


def time_ffmpeg(videos: list[Path], out: Path, cores: int) -> float:
    shutil.rmtree(out, ignore_errors=True)
    began_s = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:  # each thread waits for one ffmpeg at a time
        list(pool.map(lambda video: ffmpeg_one(video, out), videos))
    return time.perf_counter() - began_s


def ffmpeg_one(video: Path, out: Path) -> None:
    folder = out / video.stem
    folder.mkdir(parents=True)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "quiet", "-threads", "1", "-filter_threads", "1"]
    command += ["-i", str(video), "-an", "-vf", f"fps={FPS}:round=down,scale={WIDTH_PX}:{HEIGHT_PX}:flags=bilinear"]
    command += ["-threads", "1", "-q:v", "2", str(folder / "%05d.jpg")]
    subprocess.run(command, check=False)


def time_reelmill(videos: Path, out: Path, cores: int) -> float:
    """The clips stage itself on one process per core; Ray would add its start of some seconds, whatever the work.

    Starting the processes and their decoders is inside the time, indexing the folder is not.
    """
    shutil.rmtree(out, ignore_errors=True)
    clips = {"frames": FRAMES, "fps": FPS, "resize": [HEIGHT_PX, WIDTH_PX]}
    source = {"kind": "directory", "videos": str(videos), "labels": "none"}
    document = {"dataset": str(out), "source": source, "clips": {"rgb": clips}, "units": {"videos_per_unit": 1}}
    prepared = prepare(Config.model_validate(document))
    began_s = time.perf_counter()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(make_share, [prepared] * cores, range(cores), [cores] * cores))
    elapsed_s = time.perf_counter() - began_s
    (state,) = survey(prepared.store, prepared.plan)
    if state.pending or state.rows["failed"]:
        sys.exit(f"reelmill left work undone: {state}")
    return elapsed_s


def make_share(prepared: Prepared, core: int, cores: int) -> None:
    product = prepared.plan.products[0]
    stage = open_stage(product, prepared.store, prepared.config.limits)
    for unit in prepared.plan.units[core::cores]:
        stage(unit)
    stage.close()


if __name__ == "__main__":
    main()
