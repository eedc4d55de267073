"""TV-L1 flow of real frames: the cpu backend beside OpenCV's DualTVL1OpticalFlow, pair by pair in one run.

    python -m benchmarks.flow_rate [VIDEO ...] [--pairs 8] [--size 340 256]

Neighbouring frames, spread over each video, with default parameters. First on one core, to which the process is pinned,
one thread each, the two in turn on each pair. Then the cpu backend on a batch of all pairs with one thread and with as
many as there are cores, in turn. Compiling is not counted (it is done once a machine and kept on disk).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.flow_frames import gray_frames, real_videos, spread_pairs
from benchmarks.machine import machine_line
from pipeline.flow import tvl1, tvl1_sequence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--pairs", type=int, default=8, help="of each video")
    parser.add_argument("--size", type=int, nargs=2, default=(340, 256), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison of threads")
    arguments = parser.parse_args()
    print(machine_line("numba", "opencv-contrib-python-headless"))
    print(f"{arguments.size[0]}x{arguments.size[1]} px, {arguments.pairs} pairs a video, default parameters\n")
    videos = {path.name: gray_frames(path, size=tuple(arguments.size)) for path in real_videos(arguments.videos)}
    pairs = {name: spread_pairs(frames, arguments.pairs) for name, frames in videos.items()}
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    one_core(pairs)
    os.sched_setaffinity(0, cores)
    prev, following = (np.concatenate([pair[side] for pair in pairs.values()]) for side in (0, 1))
    all_cores(prev, following, len(cores), arguments.rounds)
    one_sequence(next(iter(videos.values()))[: arguments.pairs + 1], arguments.rounds)


def one_core(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    prev, following = next(iter(pairs.values()))
    tvl1(prev[0], following[0], backend="cpu")
    print(f"{'one core, one thread':<48} {'opencv ms':>10} {'cpu ms':>8} {'times as fast':>14} {'same bits':>10}")
    theirs, ours = [], []
    for name, (prev, following) in pairs.items():
        rows = [in_turn(first, second) for first, second in zip(prev, following, strict=True)]
        opencv_s, cpu_s = (sum(row[k] for row in rows) for k in (0, 1))
        theirs.append(opencv_s)
        ours.append(cpu_s)
        same = all(row[2] for row in rows)
        per_pair = 1e3 / len(rows)
        times = f"{opencv_s * per_pair:>10.0f} {cpu_s * per_pair:>8.1f} {opencv_s / cpu_s:>14.1f}"
        print(f"{name:<48} {times} {same!s:>10}", flush=True)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    total = sum(theirs) / sum(ours)
    print(f"{'all, by total time':<68} {total:>14.1f}  (videos: {min(ratios):.1f} to {max(ratios):.1f})\n")


def in_turn(first: np.ndarray, second: np.ndarray) -> tuple[float, float, bool]:
    opencv_s, reference = timed(lambda: tvl1(first, second, backend="opencv", threads=1))
    cpu_s, flow = timed(lambda: tvl1(first, second, backend="cpu", threads=1))
    return opencv_s, cpu_s, np.array_equal(reference, flow)


def all_cores(prev: np.ndarray, following: np.ndarray, num_cores: int, rounds: int) -> None:
    ratios = []
    for _ in range(rounds):
        one_s, _ = timed(lambda: tvl1(prev, following, backend="cpu", threads=1))
        all_s, _ = timed(lambda: tvl1(prev, following, backend="cpu", threads=num_cores))
        ratios.append(one_s / all_s)
    print(
        f"cpu backend, a batch of {len(prev)} pairs: {num_cores} threads are {statistics.median(ratios):.2f} times as "
        f"fast as one ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def one_sequence(frames: np.ndarray, rounds: int) -> None:
    ratios = []
    for _ in range(rounds):
        pairs_s, _ = timed(lambda: [tvl1(a, b, backend="cpu") for a, b in pairwise(frames)])
        sequence_s, _ = timed(lambda: tvl1_sequence(frames, backend="cpu"))
        ratios.append(pairs_s / sequence_s)
    ratio = statistics.median(ratios)
    print(f"cpu backend, {len(frames)} frames: as a sequence {ratio:.2f} times as fast as pair by pair")


def timed(work: Callable) -> tuple[float, np.ndarray]:
    began_s = time.perf_counter()
    result = work()
    return time.perf_counter() - began_s, result


if __name__ == "__main__":
    main()
