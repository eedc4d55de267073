"""The memory of the cpu backend for one level of the pyramid.

All planes of a pixel row lie together: row (y + 1)·NUM_PLANES + plane, column LEFT + x. A row of pixels is then one
short stretch of memory, and one base address reaches all of it. Row 0 (above the image) stays zero, as do the columns
left of it: the divergence takes the dual variables there as 0. The columns right of the image hold values that no
pixel depends on.
"""

import numpy as np

from pipeline.flow.simd import LANES

# u: flow in px; p: dual variables; IX, IY: gradient of the warped frame; RHO: constant part of the residual;
# ERROR: |Δu|² of the last iteration
U1, U2, P11, P12, P21, P22, IX, IY, RHO, ERROR = range(10)
NUM_PLANES = 10
LEFT = LANES  # columns before the image: a cache line, so that rows of pixels start on one
_SPARE = 3 * LANES  # columns after it that a vector may touch: the pipeline of `cpu_iterate` runs two vectors ahead


def aligned_zeros(num_rows: int, num_columns: int) -> np.ndarray:
    """float32 zeros (num_rows, num_columns) that begin on a cache line."""
    size = num_rows * num_columns
    raw = np.zeros(size + LANES, np.float32)
    start = -(raw.ctypes.data // raw.itemsize) % LANES
    return raw[start : start + size].reshape(num_rows, num_columns)


def rounded_up(width: int) -> int:
    """The columns of whole vectors that hold `width` pixels."""
    return -(-width // LANES) * LANES


def new_grid(height: int, width: int) -> np.ndarray:
    """float32 zeros: (height + 2)·NUM_PLANES rows of an odd number of cache lines, so that they use all its sets."""
    lines = (LEFT + rounded_up(width) + _SPARE) // LANES
    return aligned_zeros((height + 2) * NUM_PLANES, (lines + 1 - lines % 2) * LANES)


def image_of(grid: np.ndarray, plane: int, height: int, width: int) -> np.ndarray:
    """The (height, width) view of one plane."""
    return grid.reshape(height + 2, NUM_PLANES, -1)[1 : height + 1, plane, LEFT : LEFT + width]
