"""TV-L1 of one group of frame pairs on a device: the pyramid, the warps and the stopping rule.

Legend: F frames, N pairs, H, W a level's size, P = H·W. Everything is float32 and contiguous; u and p are kept twice
(ping-pong), `parity` says per pair which half is current. See `cuda_kernels` and `cuda_images` for the arithmetic.

No step waits for the host: a pair that has stopped is skipped by every kernel until the next warp. After each few steps
the number of live pairs is copied to the host; `solve` yields an event for it, and goes on launching once an *earlier*
event has passed, so the device always has work in hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import lru_cache, partial
from math import expm1

import numpy as np
import torch
import triton

from pipeline.flow import cuda_images, cuda_kernels
from pipeline.flow.params import TVL1Params, level_sizes

# Bits equal to OpenCV's need every multiplication and addition rounded by itself.
EXACT = {"enable_fp_fusion": False}
STEPS_A_CHECK = 6  # at most; a divisor of inner_iterations is taken
STEP_WARPS = 8  # of a tile's program
GRAPHS = True  # False launches kernel by kernel, to find what a recorded series hides


@dataclass(frozen=True)
class Level:
    """One level of the pyramid of F frames: (F, H, W) images and the gradients of each."""

    images: torch.Tensor
    grad_x: torch.Tensor
    grad_y: torch.Tensor


@dataclass(frozen=True)
class Pairs:
    """Per-pair state on the device, (N,) int32 each; `pending` (1,) counts the live ones."""

    first: torch.Tensor
    second: torch.Tensor
    parity: torch.Tensor
    live: torch.Tensor
    arrived: torch.Tensor
    iterations: torch.Tensor
    pending: torch.Tensor


Solution = Generator[torch.cuda.Event, None, tuple[torch.Tensor, torch.Tensor]]


def _blocks(pixels: int, planes: int) -> tuple[int, int]:
    return triton.cdiv(pixels, cuda_images.BLOCK.value), planes


@lru_cache(maxsize=256)
def _table(src: int, dst: int, scale: float, extrapolate: bool, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Source indices (dst, 2) and float32 fractions (dst,) of one axis, as IPP takes them inside `cv2.resize`.

    Past the last sample, a resize by a factor extrapolates from the last two with fraction 1 (which rounds), and one
    to a size repeats the last.
    """
    place = (np.arange(dst) + 0.5) * scale - 0.5
    lower = np.floor(place).astype(np.int64)
    fraction = (place - lower).astype(np.float32)
    before, beyond = lower < 0, lower >= src - 1
    lower = np.clip(lower, 0, src - 1)
    fraction[before | beyond] = 0
    if extrapolate:
        lower[beyond], fraction[beyond] = src - 2, 1
    index = np.stack([lower, np.minimum(lower + 1, src - 1)], axis=1).astype(np.int32)
    return torch.from_numpy(index).to(device), torch.from_numpy(fraction).to(device)


def resize(src: torch.Tensor, size: tuple[int, int], *, scale: tuple[float, float], extrapolate: bool) -> torch.Tensor:
    """(planes, h, w) -> (planes, *size); `scale` is source px per destination px (y, x)."""
    planes, src_h, src_w = src.shape
    dst = torch.empty((planes, *size), dtype=torch.float32, device=src.device)
    y_index, y_fraction = _table(src_h, size[0], scale[0], extrapolate, str(src.device))
    x_index, x_fraction = _table(src_w, size[1], scale[1], extrapolate, str(src.device))
    cuda_images.resize[_blocks(size[0] * size[1], planes)](
        src, dst, x_index, x_fraction, y_index, y_fraction,
        size[1], src_w, src_h * src_w, size[0] * size[1], **EXACT,
    )  # fmt: skip
    return dst


def gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centred differences of (F, H, W) along x and y."""
    grad_x, grad_y = torch.empty_like(images), torch.empty_like(images)
    frames, height, width = images.shape
    cuda_images.gradients[_blocks(height * width, frames)](images, grad_x, grad_y, height, width, **EXACT)
    return grad_x, grad_y


def pyramid(frames: torch.Tensor, *, params: TVL1Params) -> list[Level]:
    """Levels from fine to coarse of float32 frames (F, H, W); it ends before a level would be under 16 px."""
    images, step = [frames.contiguous()], params.scale_step
    for size in level_sizes(frames.shape[1], frames.shape[2], params)[1:]:
        images.append(resize(images[-1], size, scale=(1 / step, 1 / step), extrapolate=True))
    return [Level(image, *gradients(image)) for image in images]


def new_pairs(first: list[int], second: list[int], device: torch.device) -> Pairs:
    def zeros(count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.int32, device=device)

    def numbers(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    count = len(first)
    return Pairs(
        first=numbers(first), second=numbers(second), parity=zeros(count), live=zeros(count), arrived=zeros(count),
        iterations=zeros(count), pending=zeros(1),
    )  # fmt: skip


@lru_cache(maxsize=256)
def limits(pixels: int, *, epsilon: float, device: torch.device) -> torch.Tensor:
    """(threshold, surely at most, surely above) for Σ|Δu|², float64.

    OpenCV adds float32 terms one by one: `pixels` roundings of at most 2^-24 each, beside those within a tile here.
    """
    threshold = float(np.float32(epsilon * epsilon * pixels))
    slack = 1 + expm1((pixels + 64) * 2.0**-24) * 1.001
    return torch.tensor([threshold, threshold / slack, threshold * slack], dtype=torch.float64, device=device)


def upsampled(u: torch.Tensor, parity: torch.Tensor, size: tuple[int, int], *, factor: float) -> torch.Tensor:
    """The current half of u (2, 2, N, h, w) -> a new u of (2, 2, N, *size) whose half 0 is set."""
    h, w = u.shape[-2:]
    current = halves(u, parity).reshape(-1, h, w)
    scale = h / size[0], w / size[1]
    larger = torch.empty((2, 2, u.shape[2], *size), dtype=torch.float32, device=u.device)
    resized = resize(current, size, scale=scale, extrapolate=False)
    larger[0] = (resized.double() * factor).view(2, -1, *size)  # cv2.multiply works in float64 and rounds once
    return larger


def halves(u: torch.Tensor, parity: torch.Tensor) -> torch.Tensor:
    """(2, 2, N, H, W) -> (2, N, H, W): each pair's current half."""
    return torch.where(parity.view(1, -1, 1, 1) == 1, u[1], u[0])


def solve(frames: torch.Tensor, first: list[int], second: list[int], *, params: TVL1Params) -> Solution:
    """Flow (N, H, W, 2) of the pairs (first[n], second[n]) of float32 frames (F, H, W), and the pixel-iterations (N,).

    A generator: what it yields is an event that must have passed before it is resumed; what it returns is the result.
    """
    levels = pyramid(frames, params=params)
    pairs = new_pairs(first, second, frames.device)
    work = torch.zeros(len(first), dtype=torch.int64, device=frames.device)
    u = torch.zeros((2, 2, len(first), *levels[-1].images.shape[1:]), dtype=torch.float32, device=frames.device)
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        height, width = level.images.shape[1:]
        if number < len(levels) - 1:
            u = upsampled(u, pairs.parity, (height, width), factor=1 / params.scale_step)
            pairs.parity.zero_()
        pairs.iterations.zero_()
        yield from _level(level, u, pairs, params=params)
        work += pairs.iterations.long() * (height * width)
    return halves(u, pairs.parity).permute(1, 2, 3, 0).contiguous(), work


def _level(
    level: Level, u: torch.Tensor, pairs: Pairs, *, params: TVL1Params
) -> Generator[torch.cuda.Event, None, None]:
    """All warps of one level; the result is in the current half of u (2, 2, N, H, W)."""
    height, width = level.images.shape[1:]
    count, pixels = len(pairs.first), height * width
    p = torch.empty((2, 4, count, height, width), dtype=torch.float32, device=u.device)
    p[0] = 0  # parity is 0 at the start of a level
    warped, smoothed = torch.empty_like(p[0, :3]), torch.empty_like(u[0])
    tiles_y = triton.cdiv(height - 1, cuda_kernels.TILE_Y.value - 1)
    tiles = tiles_y * triton.cdiv(width - 1, cuda_kernels.TILE_X.value - 1)
    errors = torch.empty((count, tiles), dtype=torch.float32, device=u.device)
    limit = limits(pixels, epsilon=params.epsilon, device=u.device)
    scalars = [float(np.float32(v)) for v in (params.lambda_ * params.theta, params.theta, params.tau / params.theta)]
    step = partial(
        cuda_kernels.step[(tiles, count)],
        u, smoothed, p, warped, errors, pairs.arrived, pairs.parity, pairs.live, pairs.iterations, pairs.pending,
        limit, height, width, count, *scalars, num_warps=STEP_WARPS, **EXACT,
    )  # fmt: skip
    watch = _Watch(pairs.pending)
    steps = max(number for number in range(1, STEPS_A_CHECK + 1) if params.inner_iterations % number == 0)

    def smooth_steps() -> None:
        cuda_images.median[_blocks(pixels, 2 * count)](
            u, pairs.parity, pairs.live, smoothed, height, width, count, side=params.median_filtering, **EXACT
        )
        for number in range(steps):
            step(use_smoothed=number == 0)
        watch.copy()

    def plain_steps() -> None:
        for _ in range(steps):
            step(use_smoothed=False)
        watch.copy()

    smooth = _Recorded(smooth_steps, device=u.device) if params.median_filtering > 1 else None
    plain = _Recorded(plain_steps, device=u.device)
    for _ in range(params.num_warps):
        cuda_images.warp[_blocks(pixels, count)](
            level.images, level.grad_x, level.grad_y, pairs.first, pairs.second, u, pairs.parity, warped,
            height, width, count, **EXACT,
        )  # fmt: skip
        pairs.live.fill_(1)
        pairs.pending.fill_(count)
        watch.restart()
        for turn in range(0, params.outer_iterations * params.inner_iterations, steps):
            (smooth if smooth and turn % params.inner_iterations == 0 else plain)()
            if (yield from watch.all_stopped()):
                break
    yield from watch.last()


class _Recorded:
    """A fixed series of launches: made one by one the first time (kernels may have to be compiled), then as a graph."""

    def __init__(self, launch: Callable[[], None], *, device: torch.device) -> None:
        self.launch = launch
        self.uses = 0 if device.type == "cuda" and GRAPHS else None
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.uses is None or self.uses == 0:
            self.launch()
            self.uses = None if self.uses is None else 1
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            self.graph.capture_begin(capture_error_mode="thread_local")
            self.launch()
            self.graph.capture_end()
        self.graph.replay()


class _Watch:
    """Lets the host know when no pair is live any more, one check late, so that the device never waits for the host."""

    def __init__(self, pending: torch.Tensor) -> None:
        self.pending = pending
        self.host = torch.empty(1, dtype=torch.int32, pin_memory=True) if pending.is_cuda else pending
        self.events: deque[torch.cuda.Event] = deque()

    def copy(self) -> None:
        """Newer counts overwrite older ones: within a warp they only fall."""
        if self.pending.is_cuda:
            self.host.copy_(self.pending, non_blocking=True)

    def restart(self) -> None:
        self.events.clear()

    def all_stopped(self) -> Generator[torch.cuda.Event, None, bool]:
        if not self.pending.is_cuda:
            return int(self.host) == 0
        event = torch.cuda.Event()
        event.record()
        self.events.append(event)
        if len(self.events) < 2:
            return False
        yield self.events.popleft()
        return int(self.host) == 0

    def last(self) -> Generator[torch.cuda.Event, None, None]:
        """Before buffers and graphs are let go: the newest launches must have run."""
        if self.events:
            yield self.events.pop()
