"""The inner iterations of TV-L1 on the CPU: threshold step, primal update and dual update, 16 pixels at a time.

Bit for bit what opencv_contrib/modules/optflow/src/tvl1flow.cpp computes (`estimateV`, `divergence`, `estimateU`,
`forwardGradient`, `estimateDualVariables`): each operation rounded once, in its order. That is no luxury. The method is
chaotic: a change of 1e-6 in the frames moves one or two per cent of OpenCV's own pixels by more than 0.1 px, so results
agree everywhere or not quite anywhere. Three places have their own arithmetic:

- hypot. OpenCV's is √(x² + y²) in double, rounded to float. Here the rounding errors of x², y² and their sum are kept
  (fma gives them exactly), and one Newton step corrects the float square root by them. The step is taken a bit
  too short and a bit too long; where the two round to different floats (one vector in some 10⁴), double decides.
- Two divisions by one number. For one component of the flow they are multiplications by the reciprocal, each followed
  by its exact remainder (Markstein 1990), which rounds correctly; the divider does those of the other component.
- Σ|Δu|², which stops the iterations. OpenCV adds up floats one after the other, so its sum has an error of its own.
  Here the sum is more exact, and it decides unless it is closer to the limit than that error can be; then the terms
  are added one after the other as well.

The order of the work keeps a core busy. The dual update waits for a square root, then for a division; so its three
steps run for three neighbouring vectors at once, the last step of one beside the first step of the next but one. And it
runs two rows behind the primal update, in the same loop: neither then needs what the other has only just written.
"""

import math

import numpy as np
from numba import njit

from pipeline.flow.compiled import kernel
from pipeline.flow.cpu_grid import ERROR, IX, IY, LEFT, NUM_PLANES, P11, P12, P21, P22, RHO, U1, U2
from pipeline.flow.simd import (
    LANES,
    absolute,
    any_lane,
    copy_left_neighbour,
    copysign,
    fma,
    hypot_in_double,
    lane_numbers,
    load_at,
    negative,
    select,
    splat,
    sqrt,
    store_at,
    total,
)

# Legend: `at` is the address of the grid, `pitch` its columns, `row` the grid row of plane 0 of a pixel row; so plane k
# at column x is float number (row + k)·pitch + x. Arrays would cost a reference count in the inner loops.

_FLAT = 2.0**-23  # |∇I|² up to which OpenCV leaves the flow to the smoothness term alone
_TINY_LENGTH = 1e-18  # added to hypot before a division: no 0 / 0 where u is constant, no change anywhere else
_DOUBT = 2.0**-20  # relative error of the step from the square root to hypot, with room to spare
_ROUNDING = 2.0**-24  # relative error of one float32 operation, at most
_KEEP_BELOW = 8  # times the limit: from there on |Δu|² is kept per pixel, in case it must be added up in order


@njit(inline="always")
def _primal(at, pitch, row, x, lambda_theta, theta, first, keep):
    """u ← v + θ·div p for 16 pixels at x; returns |Δu|². `first` marks the first pixels of the row."""
    above = row - NUM_PLANES
    u1 = load_at(at, (row + U1) * pitch + x)
    u2 = load_at(at, (row + U2) * pitch + x)
    ix = load_at(at, (row + IX) * pitch + x)
    iy = load_at(at, (row + IY) * pitch + x)
    zero = splat(np.float32(0))
    rho = load_at(at, (row + RHO) * pitch + x) + (ix * u1 + iy * u2)
    gradient = ix * ix + iy * iy
    minus_rho = negative(rho)
    within = select(gradient > splat(np.float32(_FLAT)), minus_rho / gradient, zero)
    step = select(absolute(rho) > lambda_theta * gradient, copysign(lambda_theta, minus_rho), within)

    p11 = load_at(at, (row + P11) * pitch + x)
    p21 = load_at(at, (row + P21) * pitch + x)
    p12 = load_at(at, (row + P12) * pitch + x)
    p22 = load_at(at, (row + P22) * pitch + x)
    p12_above = load_at(at, (above + P12) * pitch + x)
    p22_above = load_at(at, (above + P22) * pitch + x)
    div1 = (p11 - load_at(at, (row + P11) * pitch + x - 1)) + (p12 - p12_above)
    div2 = (p21 - load_at(at, (row + P21) * pitch + x - 1)) + (p22 - p22_above)
    if first:  # OpenCV adds up the first column in another order
        column0 = splat(np.float32(0.5)) > lane_numbers()
        div1 = select(column0, (p11 + p12) - p12_above, div1)
        div2 = select(column0, (p21 + p22) - p22_above, div2)

    new1 = (u1 + step * ix) + theta * div1
    new2 = (u2 + step * iy) + theta * div2
    store_at(at, (row + U1) * pitch + x, new1)
    store_at(at, (row + U2) * pitch + x, new2)
    delta1 = new1 - u1
    delta2 = new2 - u2
    error = delta1 * delta1 + delta2 * delta2
    if keep:
        store_at(at, (row + ERROR) * pitch + x, error)
    return error


@njit(inline="always")
def _end_primal_row(at, pitch, row, width, errors, last_error):
    """The row's Σ|Δu|² as float64; `last_error` is of the vector that holds the last pixel."""
    # the forward difference of the last column is 0: its right neighbour is its equal
    copy_left_neighbour(at, (row + U1) * pitch + LEFT + width)
    copy_left_neighbour(at, (row + U2) * pitch + LEFT + width)
    inside = splat(np.float32((width - 1) % LANES + 1)) > lane_numbers()
    return np.float64(total(errors + select(inside, last_error, splat(np.float32(0)))))


@njit
def _primal_row(at, pitch, y, width, lambda_theta, theta, keep):
    """The primal update of row y alone; returns its Σ|Δu|²."""
    row = (y + 1) * NUM_PLANES
    errors = splat(np.float32(0))
    error = _primal(at, pitch, row, LEFT, lambda_theta, theta, True, keep)
    for x in range(LEFT + LANES, LEFT + width, LANES):
        errors = errors + error
        error = _primal(at, pitch, row, x, lambda_theta, theta, False, keep)
    return _end_primal_row(at, pitch, row, width, errors, error)


@njit(inline="always")
def _start_length(at, pitch, row, below, x, plane):
    """Forward differences a, b of u at x; a² + b² as a sum and its rounding error; the square root of the sum."""
    here = load_at(at, (row + plane) * pitch + x)
    a = load_at(at, (row + plane) * pitch + x + 1) - here
    b = load_at(at, (below + plane) * pitch + x) - here
    aa = a * a
    bb = b * b
    square = aa + bb
    bb_seen = square - aa
    lost = (aa - (square - bb_seen)) + (bb - bb_seen)
    lost = lost + (fma(a, a, negative(aa)) + fma(b, b, negative(bb)))
    return a, b, square, lost, sqrt(square)


@njit(inline="always")
def _residual(square, lost, root):
    """a² + b² − root²: what the Newton step corrects."""
    return fma(negative(root), root, square) + lost


@njit(inline="always")
def _length(a, b, residual, half_inverse, root):
    """hypot(a, b), rounded as OpenCV rounds it."""
    low = fma(residual, half_inverse, root)
    high = fma(residual, half_inverse * splat(np.float32(1 + 2 * _DOUBT)), root)
    if any_lane(low != high):
        low = hypot_in_double(a, b)
    return low


@njit(inline="always")
def _halve_multiplied(square, lost, root, taut):
    """Second step of the first component: what the second one needs, and the reciprocal of the uncorrected norm."""
    one = splat(np.float32(1))
    residual, half_inverse, root = _halve_divided(square, lost, root)
    return residual, half_inverse, root, one / (one + taut * root)


@njit(inline="always")
def _end_multiplied(at, pitch, row, x, a, b, residual, half_inverse, root, near, taut):
    """Third step of the first component: p ← (p + τ/θ·∇u) / norm by the reciprocal of the norm."""
    one = splat(np.float32(1))
    minus_norm = negative(one + taut * _length(a, b, residual, half_inverse, root))
    reciprocal = fma(fma(minus_norm, near, one), near, near)
    top_a = load_at(at, (row + P11) * pitch + x) + taut * a
    top_b = load_at(at, (row + P12) * pitch + x) + taut * b
    near_a = top_a * reciprocal
    near_b = top_b * reciprocal
    store_at(at, (row + P11) * pitch + x, fma(fma(minus_norm, near_a, top_a), reciprocal, near_a))
    store_at(at, (row + P12) * pitch + x, fma(fma(minus_norm, near_b, top_b), reciprocal, near_b))


@njit(inline="always")
def _halve_divided(square, lost, root):
    """Second step of the second component, whose divisions the divider does."""
    half_inverse = splat(np.float32(0.5 * (1 - _DOUBT))) / (root + splat(np.float32(_TINY_LENGTH)))
    return _residual(square, lost, root), half_inverse, root


@njit(inline="always")
def _end_divided(at, pitch, row, x, a, b, residual, half_inverse, root, taut):
    norm = splat(np.float32(1)) + taut * _length(a, b, residual, half_inverse, root)
    p21 = load_at(at, (row + P21) * pitch + x)
    p22 = load_at(at, (row + P22) * pitch + x)
    store_at(at, (row + P21) * pitch + x, (p21 + taut * a) / norm)
    store_at(at, (row + P22) * pitch + x, (p22 + taut * b) / norm)


@njit(inline="always")
def _dual_beside_primal(at, pitch, row, below, width, taut, primal_row, lambda_theta, theta, keep, with_primal):
    """p ← (p + τ/θ·∇u) / (1 + τ/θ·|∇u|) for one row, and the primal update of `primal_row` if `with_primal`.

    Returns what `_end_primal_row` takes: Σ|Δu|² by lane without the last vector, and the last vector's.
    """
    a1, b1, square, lost, root = _start_length(at, pitch, row, below, LEFT, U1)
    residual1, half_inverse1, root1, near = _halve_multiplied(square, lost, root, taut)
    a2, b2, square, lost, root = _start_length(at, pitch, row, below, LEFT, U2)
    residual2, half_inverse2, root2 = _halve_divided(square, lost, root)
    next_a1, next_b1, square1, lost1, new_root1 = _start_length(at, pitch, row, below, LEFT + LANES, U1)
    next_a2, next_b2, square2, lost2, new_root2 = _start_length(at, pitch, row, below, LEFT + LANES, U2)
    errors = splat(np.float32(0))
    error = errors
    if with_primal:
        error = _primal(at, pitch, primal_row, LEFT, lambda_theta, theta, True, keep)
    last = LEFT + (width - 1) // LANES * LANES  # the vector that holds the last pixel
    for x in range(LEFT, last, LANES):
        _end_multiplied(at, pitch, row, x, a1, b1, residual1, half_inverse1, root1, near, taut)
        residual1, half_inverse1, root1, near = _halve_multiplied(square1, lost1, new_root1, taut)
        a1, b1 = next_a1, next_b1
        next_a1, next_b1, square1, lost1, new_root1 = _start_length(at, pitch, row, below, x + 2 * LANES, U1)
        _end_divided(at, pitch, row, x, a2, b2, residual2, half_inverse2, root2, taut)
        residual2, half_inverse2, root2 = _halve_divided(square2, lost2, new_root2)
        a2, b2 = next_a2, next_b2
        next_a2, next_b2, square2, lost2, new_root2 = _start_length(at, pitch, row, below, x + 2 * LANES, U2)
        if with_primal:
            errors = errors + error
            error = _primal(at, pitch, primal_row, x + LANES, lambda_theta, theta, False, keep)
    _end_multiplied(at, pitch, row, last, a1, b1, residual1, half_inverse1, root1, near, taut)
    _end_divided(at, pitch, row, last, a2, b2, residual2, half_inverse2, root2, taut)
    return errors, error


@njit
def _both_rows(at, pitch, y, width, lambda_theta, theta, taut, keep):
    """The primal update of row y beside the dual update of row y − 2; returns Σ|Δu|² of row y."""
    row = (y + 1) * NUM_PLANES
    dual = row - 2 * NUM_PLANES
    errors, error = _dual_beside_primal(
        at, pitch, dual, dual + NUM_PLANES, width, taut, row, lambda_theta, theta, keep, True
    )
    return _end_primal_row(at, pitch, row, width, errors, error)


@njit
def _dual_row(at, pitch, y, last_y, width, taut):
    """The dual update of row y alone."""
    row = (y + 1) * NUM_PLANES
    below = row + NUM_PLANES if y < last_y else row  # the forward difference of the last row is 0
    _dual_beside_primal(at, pitch, row, below, width, taut, row, taut, taut, False, False)


@njit
def _iterate_once(at, pitch, height, width, lambda_theta, theta, taut, keep):
    """One iteration over the image; returns Σ|Δu|² and the largest error that OpenCV's own sum can have."""
    error = 0.0
    partial_sums = 0.0  # Σ over the additions of the sum so far: each may be off by one rounding of it
    for y in range(height):
        if y < 2:
            error += _primal_row(at, pitch, y, width, lambda_theta, theta, keep)
        else:
            error += _both_rows(at, pitch, y, width, lambda_theta, theta, taut, keep)
        partial_sums += error * width
    _dual_row(at, pitch, height - 2, height - 1, width, taut)
    _dual_row(at, pitch, height - 1, height - 1, width, taut)
    largest = math.exp(_ROUNDING * height * width)  # what rounding may make of partial sums, at most
    own_roundings = width // LANES + 5  # a lane's sum over the row, then the sum of the lanes
    return error, _ROUNDING * (largest * partial_sums + own_roundings * error)


@njit
def _sum_in_order(grid, height, width):
    """Σ|Δu|² as OpenCV adds it up: float32, row by row."""
    error = np.float32(0)
    for y in range(height):
        for x in range(LEFT, LEFT + width):
            error += grid[(y + 1) * NUM_PLANES + ERROR, x]
    return error


@kernel
def iterate(grid, height, width, max_iterations, limit, last_error, keep_all, lambda_theta, theta, taut):
    """Refine the flow of `grid` until Σ|Δu|² ≤ limit, at most `max_iterations` times.

    limit: float32, ε²·area. last_error: Σ|Δu|² of the iteration before, or a negative number if there is none in this
    warp. keep_all: keep |Δu|² in every iteration. lambda_theta, theta, taut (τ/θ): float32.
    Returns the last Σ|Δu|², whether it is within the limit, and whether that is sure: it isn't where Σ|Δu|² fell from
    so far above the limit to so near it that the terms were not kept; the caller then starts again with `keep_all`.
    """
    lambda_thetas, thetas, tauts = splat(lambda_theta), splat(theta), splat(taut)
    error = last_error
    for _ in range(max_iterations):
        keep = keep_all or error < _KEEP_BELOW * limit
        error, doubt = _iterate_once(grid.ctypes.data, grid.shape[1], height, width, lambda_thetas, thetas, tauts, keep)
        small = error <= limit
        if abs(error - limit) <= doubt:
            if not keep:
                return error, False, False
            small = _sum_in_order(grid, height, width) <= limit
        if small:
            return error, True, True
    return error, False, True
