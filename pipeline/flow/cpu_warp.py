"""Warping the second frame and its gradient by the flow, and the linearised residual, on the CPU.

Bit for bit what OpenCV 5.0 computes with `remap(…, INTER_CUBIC)` (constant border 0), `centeredGradient` and
`calcGradRho` in opencv_contrib/modules/optflow/src/tvl1flow.cpp. OpenCV warps frame and gradient in three calls; here
the 4 + 4 weights of a pixel are found once, and frame, x gradient and y gradient lie side by side, so that one load
fetches all three.
"""

import numpy as np
from numba import njit

from pipeline.flow.compiled import kernel
from pipeline.flow.cpu_grid import IX, IY, LEFT, NUM_PLANES, RHO, U1, U2
from pipeline.flow.simd import (
    LANES,
    floor,
    fma,
    lane_numbers,
    load,
    load4,
    load_first_of_4,
    load_second_of_4,
    load_third_of_4,
    maximum,
    minimum,
    splat,
    splat4,
    store,
    to_int,
)

MARGIN = 4  # zeros around the quads: a pixel whose 4×4 taps all lie outside reads nothing else
_CUBIC = -0.75  # the parameter "a" of Keys' cubic convolution, as OpenCV sets it


def new_quads(height: int, width: int) -> np.ndarray:
    """float32 zeros (height + 2·MARGIN, (width + 2·MARGIN)·4): frame, x gradient, y gradient and a filler per pixel."""
    return np.zeros((height + 2 * MARGIN, (width + 2 * MARGIN) * 4), np.float32)


@kernel
def fill_quads(quads, image, height, width):
    """Write `image` (at least height × width) and its centred differences (border replicated) into `quads`."""
    half = np.float32(0.5)
    for y in range(height):
        up = max(y - 1, 0)
        down = min(y + 1, height - 1)
        for x in range(width):
            at = (x + MARGIN) * 4
            quads[y + MARGIN, at] = image[y, x]
            quads[y + MARGIN, at + 1] = half * (image[y, min(x + 1, width - 1)] - image[y, max(x - 1, 0)])
            quads[y + MARGIN, at + 2] = half * (image[down, x] - image[up, x])


@njit(inline="always")
def _cubic_weights(x):
    """Weights of the taps at −1, 0, 1 and 2 for the fraction x, in OpenCV's order, which comparing bits told."""
    one = splat(np.float32(1))
    a = splat(np.float32(_CUBIC))
    y = one - x
    xx = x * x
    first = y * y * x * a
    second = fma(fma(splat(np.float32(_CUBIC + 2)), x, splat(np.float32(-_CUBIC - 3))), xx, one)
    fourth = xx * y * a
    return first, second, one - first - second - fourth, fourth


@njit(inline="always")
def _place(where, size):
    """The tap before `where` as a whole number, kept where the margin ends, and the fraction."""
    whole = floor(where)
    tap = minimum(maximum(whole, splat(np.float32(1 - MARGIN))), splat(np.float32(size + MARGIN - 3)))
    return tap, where - whole


@njit(inline="always")
def _find_taps(grid, y, height, width, weights, taps):
    """Row y: weights[0:4] and [4:8] of the taps in x and in y, taps[0]: index of the first tap's pixel in the quads."""
    row = (y + 1) * NUM_PLANES
    row_y = splat(np.float32(y))
    pitch = splat(np.int32(width + 2 * MARGIN))
    margin = splat(np.int32(MARGIN - 1))
    for x in range(0, width, LANES):
        tap_x, fraction_x = _place(lane_numbers() + splat(np.float32(x)) + load(grid, row + U1, LEFT + x), width)
        tap_y, fraction_y = _place(row_y + load(grid, row + U2, LEFT + x), height)
        for k, weight in enumerate(_cubic_weights(fraction_x)):
            store(weights, k, x, weight)
        for k, weight in enumerate(_cubic_weights(fraction_y)):
            store(weights, k + 4, x, weight)
        store(taps, 0, x, (to_int(tap_y) + margin) * pitch + to_int(tap_x) + margin)


@njit(inline="always")
def _tap_row(quads, at, w0, w1, w2, w3):
    acc = load4(quads, 0, at) * w0
    acc = fma(load4(quads, 0, at + 4), w1, acc)
    acc = fma(load4(quads, 0, at + 8), w2, acc)
    return fma(load4(quads, 0, at + 12), w3, acc)


@njit(inline="always")
def _interpolate(quads, weights, taps, width, warped):
    """warped[0, 4·x : 4·x + 3]: frame and gradient at the warped place of pixel x."""
    pitch = (width + 2 * MARGIN) * 4
    for x in range(width):
        at = 4 * np.intp(taps[0, x])
        w0, w1, w2, w3 = splat4(weights[0, x]), splat4(weights[1, x]), splat4(weights[2, x]), splat4(weights[3, x])
        acc = _tap_row(quads, at, w0, w1, w2, w3) * splat4(weights[4, x])
        acc = fma(_tap_row(quads, at + pitch, w0, w1, w2, w3), splat4(weights[5, x]), acc)
        acc = fma(_tap_row(quads, at + 2 * pitch, w0, w1, w2, w3), splat4(weights[6, x]), acc)
        acc = fma(_tap_row(quads, at + 3 * pitch, w0, w1, w2, w3), splat4(weights[7, x]), acc)
        store(warped, 0, 4 * x, acc)


@njit(inline="always")
def _linearise(grid, y, first, width, warped):
    """Row y: the warped gradient, and the part of the residual that stays while u is refined."""
    row = (y + 1) * NUM_PLANES
    for x in range(0, width, LANES):
        ix = load_second_of_4(warped, 0, 4 * x)
        iy = load_third_of_4(warped, 0, 4 * x)
        u1 = load(grid, row + U1, LEFT + x)
        u2 = load(grid, row + U2, LEFT + x)
        store(grid, row + IX, LEFT + x, ix)
        store(grid, row + IY, LEFT + x, iy)
        rho = load_first_of_4(warped, 0, 4 * x) - ix * u1 - iy * u2 - load(first, y, x)
        store(grid, row + RHO, LEFT + x, rho)


@kernel
def warp(grid, first, quads, height, width, weights, taps, warped):
    """Fill the planes IX, IY and RHO of `grid` from its flow, the first frame and the second one's `quads`.

    first: float32, rows of at least `width` rounded up to 16. weights (8, ≥ width + 15), taps int32 (1, ≥ width + 15)
    and warped (1, ≥ 4·width + 60) are scratch.
    """
    for y in range(height):
        _find_taps(grid, y, height, width, weights, taps)
        _interpolate(quads, weights, taps, width, warped)
        _linearise(grid, y, first, width, warped)
