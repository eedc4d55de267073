"""The cpu backend: TV-L1 in numba, bit for bit OpenCV's. A pair runs on one thread; threads share the pairs out.

The illumination term (gamma > 0) has no kernel here: with it, OpenCV itself computes, at OpenCV's speed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np

from pipeline.flow import opencv
from pipeline.flow.cpu_grid import (
    LEFT,
    NUM_PLANES,
    P11,
    P22,
    U1,
    U2,
    aligned_zeros,
    image_of,
    new_grid,
    rounded_up,
)
from pipeline.flow.cpu_iterate import iterate
from pipeline.flow.cpu_median import median_filter
from pipeline.flow.cpu_warp import fill_quads, new_quads, warp
from pipeline.flow.params import TVL1Params, level_sizes

_NEIGHBOURS = 4  # pairs of a sequence that one thread takes at a time: they share pyramids

_SPARE_BYTES = 64 << 20  # larger workspaces are not kept from call to call
_MAX_SPARE = 16


@dataclass
class _Level:
    """One level of a frame's pyramid."""

    image: np.ndarray  # float32 (height, width)
    padded: np.ndarray  # float32, the same with rows of whole vectors
    quads: np.ndarray | None = None  # frame and gradient, made when the frame is first warped

    def filled_quads(self) -> np.ndarray:
        if self.quads is None:
            height, width = self.image.shape
            self.quads = new_quads(height, width)
            fill_quads(self.quads, self.image, height, width)
        return self.quads


def _pyramid(frame: np.ndarray, params: TVL1Params) -> list[_Level]:
    """Finest level first. `cv2.resize` is what OpenCV's own pyramid calls, so its arithmetic needs no copy."""
    levels: list[_Level] = []
    image: np.ndarray = frame.astype(np.float32, order="C")  # for other orders numba would compile again
    for height, width in level_sizes(frame.shape[0], frame.shape[1], params):
        if levels:
            step = params.scale_step  # by factor: with a size, OpenCV would sample by the ratio of the rounded sizes
            image = cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        padded = np.zeros((height, rounded_up(width)), np.float32)
        padded[:, :width] = image
        levels.append(_Level(image, padded))
    return levels


@dataclass
class _Workspace:
    """The memory in which a thread works on images of one size; `flow` leaves its result in `grid`."""

    height: int
    width: int
    grid: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        columns = rounded_up(self.width)
        self.grid = new_grid(self.height, self.width)
        self._median_rows = aligned_zeros(8, self.grid.shape[1])
        self._weights = aligned_zeros(8, columns)
        self._taps = np.zeros((1, columns), np.int32)
        self._warped = aligned_zeros(1, 4 * columns)

    def reset(self, coarser: "_Workspace | None", params: TVL1Params) -> None:
        """Start from the flow of the coarser level, None: from zero; the dual variables start from zero."""
        planes = self.grid.reshape(self.height + 2, NUM_PLANES, -1)
        planes[:, P11 : P22 + 1] = 0
        if coarser is None:
            planes[:, U1 : U2 + 1] = 0
            return
        for plane in (U1, U2):
            flow = coarser.image(plane)
            # one component at a time: for two channels OpenCV rounds otherwise
            flow = cv2.resize(np.ascontiguousarray(flow), (self.width, self.height), interpolation=cv2.INTER_LINEAR)
            self.image(plane)[:] = flow * np.float64(1 / params.scale_step)  # OpenCV multiplies in double, too

    def image(self, plane: int) -> np.ndarray:
        return image_of(self.grid, plane, self.height, self.width)

    def solve(self, first: _Level, second: _Level, params: TVL1Params, *, keep_all: bool = False) -> bool:
        """All warps of one level. False: begin again with `keep_all`, see `iterate`."""
        quads = second.filled_quads()
        limit = np.float32(params.epsilon * params.epsilon * (self.height * self.width))
        weights = (
            np.float32(params.lambda_ * params.theta),
            np.float32(params.theta),
            np.float32(params.tau / params.theta),
        )
        for _ in range(params.num_warps):
            size = self.height, self.width
            warp(self.grid, first.padded, quads, *size, self._weights, self._taps, self._warped)
            error, small = -1.0, False
            for _ in range(params.outer_iterations):
                if params.median_filtering > 1:
                    for plane in (U1, U2):
                        self._filter(plane, params.median_filtering)
                error, small, sure = iterate(
                    self.grid, *size, params.inner_iterations, limit, error, keep_all, *weights
                )
                if not sure:
                    return False
                if small:
                    break
        return True

    def _filter(self, plane: int, side: int) -> None:
        median_filter(self.grid, plane, NUM_PLANES, self.height, self.width, LEFT, side, self._median_rows)


def _solve_pair(
    first: list[_Level], second: list[_Level], workspaces: list[_Workspace], params: TVL1Params
) -> np.ndarray:
    """float32 (height, width, 2). Coarsest level first; `workspaces` has one for each level, finest first."""
    coarser = None
    for level in reversed(range(len(first))):
        workspaces[level].reset(coarser, params)
        if not workspaces[level].solve(first[level], second[level], params):
            workspaces[level].reset(coarser, params)
            workspaces[level].solve(first[level], second[level], params, keep_all=True)
        coarser = workspaces[level]
    return np.stack([workspaces[0].image(plane) for plane in (U1, U2)], axis=-1)


def flow_pairs(prev: np.ndarray, following: np.ndarray, *, params: TVL1Params, threads: int) -> np.ndarray:
    """Flow from prev[i] to following[i]: (N, H, W) uint8 or float32 in 0–255 → float32 (N, H, W, 2), px."""
    if params.gamma:
        return opencv.flow_pairs(prev, following, params=params, threads=threads)

    def solve(pairs: range, workspaces: list[_Workspace], out: np.ndarray) -> None:
        for i in pairs:
            first, second = _pyramid(prev[i], params), _pyramid(following[i], params)
            out[i] = _solve_pair(first, second, workspaces, params)

    return _share_out(solve, len(prev), prev.shape[1:], params, threads, most=1)


def flow_sequence(frames: np.ndarray, *, params: TVL1Params, threads: int) -> np.ndarray:
    """Flow between neighbours: (T, H, W) uint8 or float32 in 0–255 → float32 (T − 1, H, W, 2), px.

    The pyramid of a frame serves both of its pairs.
    """
    if params.gamma:
        return opencv.flow_sequence(frames, params=params, threads=threads)

    def solve(pairs: range, workspaces: list[_Workspace], out: np.ndarray) -> None:
        first = _pyramid(frames[pairs.start], params)
        for i in pairs:
            second = _pyramid(frames[i + 1], params)
            out[i] = _solve_pair(first, second, workspaces, params)
            first = second

    return _share_out(solve, len(frames) - 1, frames.shape[1:], params, threads, most=_NEIGHBOURS)


def _share_out(
    solve: Callable, num_pairs: int, size: tuple[int, ...], params: TVL1Params, threads: int, *, most: int
) -> np.ndarray:
    """Run `solve` on runs of `most` pairs, `threads` at a time; each run has a set of workspaces to itself.

    Short runs keep all threads busy to the end: one pair can cost ten times as much as another.
    """
    out = np.empty((num_pairs, *size, 2), np.float32)
    sizes = tuple(level_sizes(size[0], size[1], params))
    threads = max(1, min(threads, num_pairs))
    per_task = max(1, min(most, -(-num_pairs // threads)))

    def run(start: int) -> None:
        with _SPARE.borrowed(sizes) as workspaces:
            solve(range(start, min(start + per_task, num_pairs)), workspaces, out)

    starts = range(0, num_pairs, per_task)
    if threads == 1:
        for start in starts:
            run(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(run, starts):
                pass
    return out


class _SpareWorkspaces:
    """Workspaces of the last size that was used, kept for the next call: fresh memory costs as much as some warps."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sizes: tuple[tuple[int, int], ...] = ()
        self._spare: list[list[_Workspace]] = []

    @contextmanager
    def borrowed(self, sizes: tuple[tuple[int, int], ...]) -> Iterator[list[_Workspace]]:
        """A workspace for each level, which is nobody else's meanwhile."""
        with self._lock:
            if sizes != self._sizes:
                self._sizes, self._spare = sizes, []
            found = self._spare.pop() if self._spare else None
        workspaces = found or [_Workspace(*level) for level in sizes]
        yield workspaces  # not kept after an error
        with self._lock:
            small = sum(workspace.grid.nbytes for workspace in workspaces) <= _SPARE_BYTES
            if small and sizes == self._sizes and len(self._spare) < _MAX_SPARE:
                self._spare.append(workspaces)


_SPARE = _SpareWorkspaces()
