"""Gradient, warp and residual against `cv2.remap`, bit for bit."""

import cv2
import numpy as np
import pytest

from pipeline.flow.cpu_grid import IX, IY, LEFT, NUM_PLANES, RHO, U1, U2, image_of, new_grid, rounded_up
from pipeline.flow.cpu_warp import MARGIN, fill_quads, new_quads, warp

F32 = np.float32
SIZES = [(16, 16), (16, 17), (17, 33), (20, 47), (40, 48), (33, 100)]


def random_image(height, width, seed):
    return (np.random.default_rng(seed).random((height, width)) * 255).astype(F32)


def gradient(image):
    """tvl1flow.cpp's centeredGradient: (x, y)."""
    padded = np.pad(image, 1, mode="edge")
    return F32(0.5) * (padded[1:-1, 2:] - padded[1:-1, :-2]), F32(0.5) * (padded[2:, 1:-1] - padded[:-2, 1:-1])


def warped(first, second, u1, u2):
    """The kernel's (ix, iy, rho)."""
    height, width = first.shape
    columns = rounded_up(width)
    grid, quads = new_grid(height, width), new_quads(height, width)
    image_of(grid, U1, height, width)[:], image_of(grid, U2, height, width)[:] = u1, u2
    fill_quads(quads, second, height, width)
    padded = np.zeros((height, columns), F32)
    padded[:, :width] = first
    scratch = np.zeros((8, columns), F32), np.zeros((1, columns), np.int32), np.zeros((1, 4 * columns), F32)
    warp(grid, padded, quads, height, width, *scratch)
    assert np.array_equal(image_of(grid, U1, height, width), u1, equal_nan=True)
    assert not grid[:, :LEFT].any()
    return [image_of(grid, plane, height, width) for plane in (IX, IY, RHO)]


def by_opencv(first, second, u1, u2):
    rows, columns = np.indices(first.shape).astype(F32)
    places = columns + u1, rows + u2
    frame, ix, iy = (cv2.remap(image, *places, cv2.INTER_CUBIC) for image in (second, *gradient(second)))
    return ix, iy, frame - ix * u1 - iy * u2 - first


def assert_equals_opencv(u1, u2, seed=0):
    first, second = random_image(*u1.shape, seed), random_image(*u1.shape, seed + 1)
    for ours, theirs in zip(warped(first, second, u1, u2), by_opencv(first, second, u1, u2), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("size_px", [0, 1e-7, 1e-3, 1, 8, 40, 1e3, 1e9, 1e30])
def test_random_flow(height, width, size_px) -> None:
    rng = np.random.default_rng(width)
    u1, u2 = (rng.standard_normal((2, height, width)) * size_px).astype(F32)
    assert_equals_opencv(u1, u2)


def test_every_place_around_the_border() -> None:
    # frame 24 × 40, sampled from 5 px before it to 5 px behind it, on grid points, near them and between them
    height, width = 24, 40
    rows, columns = np.indices((height, width)).astype(F32)
    for border in range(-5, 6):
        for part in (0, 1e-6, 1 / 3, 0.5, 1 - 2**-20):
            place = F32(border + part)
            assert_equals_opencv(place - columns, place - rows)
            assert_equals_opencv(place + F32(width - 1) - columns, place + F32(height - 1) - rows)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_flow_that_is_no_place_reads_within_the_margin(bad) -> None:
    height, width = 18, 33
    u1, u2 = np.zeros((2, height, width), F32)
    u1[3, 5] = u2[7, 32] = u1[17, 0] = u2[17, 0] = bad
    ours = warped(random_image(height, width, 0), random_image(height, width, 1), u1, u2)
    theirs = by_opencv(random_image(height, width, 0), random_image(height, width, 1), u1, u2)
    good = (u1 == 0) & (u2 == 0)
    for mine, opencvs in zip(ours, theirs, strict=True):
        assert np.array_equal(mine[good], opencvs[good])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_quads(height, width) -> None:
    image = random_image(height, width, 3)
    quads = new_quads(height, width)
    fill_quads(quads, image, height, width)
    planes = quads.reshape(height + 2 * MARGIN, width + 2 * MARGIN, 4)
    inside = planes[MARGIN:-MARGIN, MARGIN:-MARGIN]
    for plane, expected in enumerate((image, *gradient(image), np.zeros_like(image))):
        assert np.array_equal(inside[..., plane], expected)
    planes[MARGIN:-MARGIN, MARGIN:-MARGIN] = 0
    assert not planes.any()


def test_no_pixel_depends_on_the_padding() -> None:
    height, width = 17, 35
    columns = rounded_up(width)
    results = []
    for padding in (0, np.nan):
        grid, quads, first = new_grid(height, width), new_quads(height, width), np.full((height, columns), F32(padding))
        grid.reshape(height + 2, NUM_PLANES, -1)[:, :, LEFT + width :] = padding
        for plane in (U1, U2):
            image_of(grid, plane, height, width)[:] = np.random.default_rng(plane).standard_normal((height, width))
        first[:, :width] = random_image(height, width, 0)
        fill_quads(quads, random_image(height, width, 1), height, width)
        scratch = [np.full(shape, F32(padding)) for shape in ((8, columns), (1, 4 * columns))]
        warp(grid, first, quads, height, width, scratch[0], np.zeros((1, columns), np.int32), scratch[1])
        results.append([image_of(grid, plane, height, width) for plane in (IX, IY, RHO)])
    for clean, stained in zip(*results, strict=True):
        assert np.array_equal(clean, stained)
