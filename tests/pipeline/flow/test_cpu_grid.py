"""The layout that the kernels of the cpu backend rely on."""

import numpy as np
import pytest

from pipeline.flow.cpu_grid import LEFT, NUM_PLANES, P11, U1, U2, aligned_zeros, image_of, new_grid, rounded_up
from pipeline.flow.simd import LANES

WIDTHS = [16, 17, 31, 32, 33, 47, 48, 49, 340, 1920]


@pytest.mark.parametrize(("width", "expected"), [(16, 16), (17, 32), (31, 32), (32, 32), (33, 48), (340, 352)])
def test_rounded_up(width, expected) -> None:
    assert rounded_up(width) == expected


@pytest.mark.parametrize("num_rows", [1, 3])
def test_aligned_zeros(num_rows) -> None:
    arrays = [aligned_zeros(num_rows, columns) for columns in (16, 48, 100)]
    for array, columns in zip(arrays, (16, 48, 100), strict=True):
        assert (array.shape, array.dtype) == ((num_rows, columns), np.float32)
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0
        assert not array.any()


@pytest.mark.parametrize("width", WIDTHS)
def test_grid_has_room_for_the_vectors_that_run_ahead(width) -> None:
    grid = new_grid(16, width)
    assert grid.shape[0] == 18 * NUM_PLANES
    last = LEFT + (width - 1) // LANES * LANES  # the vector with the last pixel
    assert (
        grid.shape[1] >= last + 2 * LANES + 1 + LANES
    )  # two vectors ahead of the last but one, one column to the right
    assert grid.shape[1] % (2 * LANES) == LANES  # an odd number of cache lines


def test_image_is_a_view_of_its_plane_alone() -> None:
    height, width = 17, 33
    grid = new_grid(height, width)
    for number, plane in enumerate((U1, U2, P11), start=1):
        image = image_of(grid, plane, height, width)
        assert image.shape == (height, width)
        assert np.shares_memory(image, grid)
        image[:] = number
    assert grid.sum() == height * width * (1 + 2 + 3)
    assert grid[NUM_PLANES + U2, LEFT] == 2
    assert grid[height * NUM_PLANES + P11, LEFT + width - 1] == 3
    assert not grid[:NUM_PLANES].any()
    assert not grid[:, :LEFT].any()
