"""The median filters: the network by the zero-one principle, and the filter against `cv2.medianBlur`."""

from itertools import product

import cv2
import numpy as np
import pytest
from numba import njit

from pipeline.flow.cpu_grid import LEFT, NUM_PLANES, U1, U2, aligned_zeros, image_of, new_grid
from pipeline.flow.cpu_median import _median3x3, _median5x5, median_filter
from pipeline.flow.simd import store

SIZES = [(16, 16), (16, 17), (17, 31), (33, 32), (20, 47), (40, 49), (64, 200)]


@njit
def _of_columns(sorted_columns, side, out):
    store(out, 0, 0, _median5x5(sorted_columns, 16) if side == 5 else _median3x3(sorted_columns, 16))


def filtered(image, side):
    """`image` after `median_filter`, and the grid around it."""
    height, width = image.shape
    grid = new_grid(height, width)
    for plane in range(NUM_PLANES):
        image_of(grid, plane, height, width)[:] = plane
    image_of(grid, U2, height, width)[:] = image
    scratch = aligned_zeros(8, grid.shape[1])
    median_filter(grid, U2, NUM_PLANES, height, width, LEFT, side, scratch)
    return image_of(grid, U2, height, width), grid


@pytest.mark.parametrize(("side", "staircases"), [(3, 20), (5, 252)])
def test_network_on_all_zeros_and_ones(side, staircases) -> None:
    # a network of comparisons that is right on all zeros and ones is right on all numbers; its columns come sorted
    out, num_staircases = np.zeros((1, 16), np.float32), 0
    for zeros_of_column in product(range(side + 1), repeat=side):
        matrix = np.array([[0] * zeros + [1] * (side - zeros) for zeros in zeros_of_column], np.float32).T
        columns = np.zeros((8, 48), np.float32)
        columns[:side, 16 - side // 2 : 16 + side // 2 + 1] = matrix
        _of_columns(columns, side, out)
        assert out[0, 0] == np.median(matrix), matrix
        num_staircases += (np.diff(matrix, axis=1) >= 0).all()
    assert num_staircases == staircases  # the cases that the choice of diagonals rests on: rows sorted as well


@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_opencv(height, width, side) -> None:
    rng = np.random.default_rng(height * width)
    noise = rng.standard_normal((height, width)).astype(np.float32)
    ramp = np.float32(np.add.outer(np.arange(height), 3 * np.arange(width)))
    for image in (noise, np.round(noise), (noise > 0).astype(np.float32), noise * np.float32(1e30), ramp):
        result, _ = filtered(image, side)
        assert np.array_equal(result, cv2.medianBlur(image, side))


@pytest.mark.parametrize("side", [3, 5])
def test_leaves_the_other_planes_and_the_left_border(side) -> None:
    height, width = 18, 21
    _, grid = filtered(np.random.default_rng(0).standard_normal((height, width)).astype(np.float32), side)
    for plane in set(range(NUM_PLANES)) - {U1, U2}:
        assert (image_of(grid, plane, height, width) == plane).all()
    assert not grid[:, :LEFT].any()
    assert not grid[:NUM_PLANES].any()
    assert not grid[-NUM_PLANES:].any()


@pytest.mark.parametrize("side", [3, 5])
def test_no_pixel_depends_on_the_padding(side) -> None:
    height, width = 17, 19
    image = np.random.default_rng(0).standard_normal((height, width)).astype(np.float32)
    grid = new_grid(height, width)
    grid[:] = np.nan
    image_of(grid, U1, height, width)[:] = image
    scratch = aligned_zeros(8, grid.shape[1])
    scratch[:] = np.nan
    median_filter(grid, U1, NUM_PLANES, height, width, LEFT, side, scratch)
    assert np.array_equal(image_of(grid, U1, height, width), cv2.medianBlur(image, side))
