"""The cpu backend in memory whose neighbours can't be touched: a load or store that leaves its array ends the process.

A program: `python guarded.py before|behind [bite]`. Each array that the kernels get has a page without any rights
directly before its first, or behind its last element. With `bite`, one such page is touched on purpose.
"""

import ctypes
import mmap
import sys

import numpy as np

from pipeline.flow import TVL1Params, cpu, cpu_grid, tvl1

PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)
_KEPT = []  # mappings live as long as the process


def guarded_zeros(shape, dtype, *, behind):
    """Zeros of this shape; `behind`: the forbidden page lies behind the last element, otherwise before the first."""
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    num_pages = -(-num_bytes // PAGE)
    memory = mmap.mmap(-1, (num_pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, num_pages + 1):
        address = ctypes.c_void_p(start + page * PAGE)
        assert _LIBC.mprotect(address, PAGE, 0) == 0, ctypes.get_errno()
    offset = (num_pages + 1) * PAGE - num_bytes if behind else PAGE
    _KEPT.append(memory)
    return np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)


class _Numpy:
    """numpy for the module under test, whose `zeros` are guarded."""

    def __init__(self, behind):
        self.zeros = lambda shape, dtype: guarded_zeros(shape, dtype, behind=behind)

    def __getattr__(self, name):
        return getattr(np, name)


def guard(*, behind):
    def aligned_zeros(num_rows, num_columns):
        array = guarded_zeros((num_rows, num_columns), np.float32, behind=behind)
        assert array.ctypes.data % 64 == 0
        return array

    real_quads = cpu.new_quads
    cpu.np = _Numpy(behind)
    cpu.aligned_zeros = cpu_grid.aligned_zeros = aligned_zeros
    cpu.new_quads = lambda height, width: guarded_zeros(real_quads(height, width).shape, np.float32, behind=behind)


def hostile_flow(height, width):
    """Flow that leads far out of the frame, and no place at all."""
    rng = np.random.default_rng(height * width)
    flow = rng.standard_normal((2, height, width)) * 10.0 ** rng.integers(-3, 38, (2, height, width))
    flow = np.float32(np.clip(flow, -3e38, 3e38))
    flow[rng.random(flow.shape) < 0.2] = np.nan
    flow[rng.random(flow.shape) < 0.2] = np.inf
    flow[:, 0, 0] = flow[:, -1, -1] = -np.inf
    return flow


def main():
    behind = sys.argv[1] == "behind"
    guard(behind=behind)
    if sys.argv[2:] == ["bite"]:
        array = guarded_zeros((4, 16), np.float32, behind=behind)
        ctypes.memset(array.ctypes.data + (array.nbytes if behind else -1), 1, 1)
    sizes = [(16, width) for width in range(16, 50)] + [(height, 16) for height in range(17, 36)]
    rng = np.random.default_rng(0)
    for height, width in [*sizes, (33, 63), (47, 64), (48, 65), (16, 600), (600, 16)]:
        frames = rng.integers(0, 256, (2, height, width)).astype(np.uint8)
        for side in (1, 3, 5):
            params = TVL1Params(num_warps=1, outer_iterations=2, inner_iterations=2, median_filtering=side)
            tvl1(*frames, params=params, backend="cpu")
        workspace = cpu._Workspace(height, width)
        first, second = (cpu._pyramid(frame, TVL1Params())[0] for frame in frames)
        for plane, values in enumerate(hostile_flow(height, width)):
            workspace.image(plane)[:] = values
        workspace.solve(first, second, TVL1Params(num_warps=2, outer_iterations=2, inner_iterations=3))
    print("whole")


if __name__ == "__main__":
    main()
