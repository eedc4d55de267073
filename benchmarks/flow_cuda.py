"""TV-L1 flow on a GPU: pairs a second, beside the limits of the device and the bits of the cpu backend.

    python -m benchmarks.flow_cuda [--frames FILE.npy] [--size 340 256] [--pairs 256] [--sweep] [--profile]

Frames: an .npy file of gray frames (T, H, W), uint8, neighbours of which are paired; or made here with numpy: a texture
of natural spectrum under a moving camera, with things that move before it, and noise. Default parameters; the
pixel-iterations that each pair took are counted on the device. Compiling and the first call are not counted.

Limits: about 90 float operations a pixel-iteration against one per lane and clock (the arithmetic may not be fused;
a division or a float64 root counts as one, though it takes many), and 60 bytes against what a plain copy moves.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import triton

from benchmarks.machine import machine_line
from pipeline.flow import TVL1Params, cuda, cuda_solve, tvl1

OPERATIONS_A_PIXEL = 90
BYTES_A_PIXEL = 60
PARAMS = TVL1Params()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, help="an .npy file (T, H, W) uint8; made here if left out")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(340, 256), metavar=("WIDTH", "HEIGHT"), help="of made ones"
    )
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", type=int, default=8, help="pairs that are compared with the cpu backend")
    parser.add_argument("--sweep", action="store_true", help="also other sizes and numbers of groups")
    parser.add_argument("--no-graphs", action="store_true", help="launch kernel by kernel")
    parser.add_argument("--profile", action="store_true", help="also the device time of each kernel")
    arguments = parser.parse_args()
    reason = cuda.unavailable()
    if reason and not triton.knobs.runtime.interpret:
        raise SystemExit(f"nothing to measure here: {reason}")
    device = torch.device("cpu" if reason else "cuda")
    cuda_solve.GRAPHS = not arguments.no_graphs
    frames = np.load(arguments.frames) if arguments.frames else made_frames(arguments.pairs + 1, *arguments.size)
    frames = frames[: arguments.pairs + 1]
    print(machine_line("torch", "triton", "numba", "numpy"))
    print(device_line(device))
    print(
        f"{len(frames) - 1} pairs of {frames.shape[2]}x{frames.shape[1]} px from {arguments.frames or 'made frames'}\n"
    )
    on_device = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    first_s, _ = timed(lambda: cuda.sequence_cuda(on_device[:9], params=PARAMS), device)
    print(f"first call (compiles what is not on disk yet): {first_s:.1f} s")
    rate(on_device, arguments.rounds, device)
    difference(frames[: arguments.check + 1], on_device[: arguments.check + 1])
    if arguments.sweep:
        sweep(on_device, arguments.rounds, device)
    if arguments.profile:
        profile(on_device)


def rate(frames: torch.Tensor, rounds: int, device: torch.device) -> None:
    """Prints pairs a second, as pairs and as a sequence, and the shares of the device's limits."""
    prev, following = frames[:-1].contiguous(), frames[1:].contiguous()
    work = cuda.pairs_cuda(prev, following, params=PARAMS)[1].double().cpu().numpy()
    pixels = frames.shape[1] * frames.shape[2]
    print(
        f"million pixel-iterations a pair: mean {work.mean() / 1e6:.1f}, median {np.median(work) / 1e6:.1f}, "
        f"most {work.max() / 1e6:.1f} (real 340x256 pairs: about 3 to 41)"
    )
    print(f"{'':<24} {'pairs/s':>10} {'of rounds':>20} {'ms a pair':>10} {'G pixel-iterations/s':>22}")
    rows = {
        "pairs": lambda: cuda.flow_cuda(prev, following, params=PARAMS),
        "sequence": lambda: cuda.sequence_cuda(frames, params=PARAMS),
    }
    fastest_s = float("inf")
    for name, call in rows.items():
        call()
        times_s = [timed(call, device)[0] for _ in range(rounds)]
        middle_s, fastest_s = statistics.median(times_s), min(fastest_s, statistics.median(times_s))
        rates = f"{len(work) / max(times_s):.0f} to {len(work) / min(times_s):.0f}"
        print(
            f"{name:<24} {len(work) / middle_s:>10.0f} {rates:>20} {middle_s / len(work) * 1e3:>10.3f} "
            f"{work.sum() / middle_s / 1e9:>22.2f}"
        )
    if device.type == "cuda":
        arithmetic, memory = limits(device)
        per_s = work.sum() / fastest_s
        print(
            f"share of the limits: arithmetic {per_s * OPERATIONS_A_PIXEL / arithmetic:.1%} of {arithmetic / 1e12:.1f} "
            f"T operations/s, memory {per_s * BYTES_A_PIXEL / memory:.1%} of the {memory / 1e12:.2f} TB/s of a copy "
            f"(a pair's state is {pixels * BYTES_A_PIXEL / 1e6:.1f} MB)"
        )


def difference(frames: np.ndarray, on_device: torch.Tensor) -> None:
    """Prints how far the device's flow is from the cpu backend's."""
    ours = cuda.sequence_cuda(on_device, params=PARAMS).cpu().numpy()
    theirs = tvl1(frames[:-1], frames[1:], params=PARAMS, backend="cpu")
    apart = np.hypot(*np.moveaxis(ours - theirs, -1, 0))
    print(
        f"against the cpu backend, {len(theirs)} pairs: mean difference {apart.mean():.3g} px, most {apart.max():.3g}, "
        f"{(apart > 0.1).mean():.3%} of pixels by more than 0.1 px; "
        f"{(ours == theirs).all(axis=(1, 2, 3)).sum()} pairs have the same bits\n"
    )


def sweep(frames: torch.Tensor, rounds: int, device: torch.device) -> None:
    """Prints pairs a second for other groups, and for other numbers of warps a program."""
    before = cuda.MOST_PAIRS, cuda.PIXELS_A_GROUP, cuda.GROUPS_AT_ONCE, cuda_solve.STEP_WARPS
    cuda.PIXELS_A_GROUP = 2**40

    def pairs_per_s() -> float:
        cuda.sequence_cuda(frames, params=PARAMS)
        times_s = [timed(lambda: cuda.sequence_cuda(frames, params=PARAMS), device)[0] for _ in range(rounds)]
        return (len(frames) - 1) / statistics.median(times_s)

    counts = (1, 2, 3, 4)
    print("pairs/s by " + " ".join(f"{f'{count} at once':>12}" for count in counts))
    for cuda.MOST_PAIRS in (8, 16, 32, 64, 128):
        print(f"groups of {cuda.MOST_PAIRS:<3}", end="")
        for cuda.GROUPS_AT_ONCE in counts:
            print(f"{pairs_per_s():>12.0f} ", end="", flush=True)
        print()
    cuda.MOST_PAIRS, cuda.PIXELS_A_GROUP, cuda.GROUPS_AT_ONCE, cuda_solve.STEP_WARPS = before
    for cuda_solve.STEP_WARPS in (4, 8, 16):
        print(f"{cuda_solve.STEP_WARPS} warps a program: {pairs_per_s():.0f} pairs/s")
    cuda_solve.STEP_WARPS = before[-1]


def profile(frames: torch.Tensor) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as recorded:
        cuda.sequence_cuda(frames, params=PARAMS)
        torch.cuda.synchronize()
    print(recorded.key_averages().table(sort_by="self_device_time_total", row_limit=16, max_name_column_width=48))


def device_line(device: torch.device) -> str:
    if device.type == "cpu":
        return "no GPU: Triton's interpreter on the CPU; these are no measurements"
    about = torch.cuda.get_device_properties(device)
    size = f"{about.multi_processor_count} multiprocessors, {about.total_memory / 2**30:.0f} GiB"
    return f"{about.name}, {size}; CUDA {torch.version.cuda}"


def limits(device: torch.device) -> tuple[float, float]:
    """Unfused float32 operations a second at the highest clock, and bytes a second of a device-to-device copy."""
    query = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    clock_hz = float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]) * 1e6
    source = torch.zeros(2**28, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    copy_s = min(timed(lambda: target.copy_(source), device)[0] for _ in range(10))
    lanes = torch.cuda.get_device_properties(device).multi_processor_count * 128
    return lanes * clock_hz, 2 * source.nbytes / copy_s


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, object]:
    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    settle()
    began_s = time.perf_counter()
    result = work()
    settle()
    return time.perf_counter() - began_s, result


def made_frames(count: int, width: int, height: int) -> np.ndarray:
    """(count, H, W) uint8; deterministic."""
    rng = np.random.default_rng(0)
    margin = 64
    background = texture(rng, height + 2 * margin, width + 2 * margin)
    things = [(texture(rng, height, width), *rng.uniform(0, 6.28, 2), rng.uniform(0.05, 0.2)) for _ in range(4)]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    frames = np.empty((count, height, width), np.uint8)
    for number in range(count):
        # Now still, now panning by up to 2 px a frame; things at up to about 8.
        shift = margin * 0.8 * np.sin(0.03 * number), margin * 0.8 * np.sin(0.021 * number + 1)
        image = sampled(background, y + margin + shift[1], x + margin + shift[0])
        for look, phase_x, phase_y, speed in things:
            centre = (
                width * (0.5 + 0.4 * np.sin(speed * number + phase_x)),
                height * (0.5 + 0.4 * np.sin(0.8 * speed * number + phase_y)),
            )
            inside = ((x - centre[0]) / (0.09 * width)) ** 2 + ((y - centre[1]) / (0.16 * height)) ** 2 < 1
            moved = sampled(
                look, (y - centre[1] + height / 2) % (height - 1), (x - centre[0] + width / 2) % (width - 1)
            )
            image = np.where(inside, moved, image)
        frames[number] = np.clip(np.rint(image + rng.normal(0, 1.5, image.shape)), 0, 255)
    return frames


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise whose amplitude falls as 1/frequency, as natural images' does; 20 to 235."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    image = np.fft.irfft2(spectrum / frequency**1.2, s=(height, width))
    return 20 + 215 * (image - image.min()) / np.ptp(image)


def sampled(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear."""
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    top, left = np.clip(top, 0, image.shape[0] - 2), np.clip(left, 0, image.shape[1] - 2)
    down, across = y - top, x - left
    upper = image[top, left] * (1 - across) + image[top, left + 1] * across
    lower = image[top + 1, left] * (1 - across) + image[top + 1, left + 1] * across
    return upper * (1 - down) + lower * down


if __name__ == "__main__":
    main()
