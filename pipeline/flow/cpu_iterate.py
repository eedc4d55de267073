"""The inner iterations of TV-L1 on the CPU: the threshold step, the primal update and the dual update, 16 pixels at a
time.

Bit for bit what opencv_contrib/modules/optflow/src/tvl1flow.cpp computes (`estimateV`, `divergence`, `estimateU`,
`forwardGradient`, `estimateDualVariables`): each operation rounded once, in its order. That is no luxury. The method is
chaotic: a change of 1e-6 in the frames moves one or two per cent of OpenCV's own pixels by more than 0.1 px, so results
agree everywhere or not quite anywhere. Three places have their own arithmetic:

- hypot. OpenCV's is √(x² + y²) in double, rounded to float. Here the rounding errors of x², y² and their sum are kept
  (fma gives them exactly), and one Newton step corrects the float square root by them. The quotient in the step has
  errors near 2⁻⁴⁶, so that once in about 2²² results a tie is rounded to the other side; 1 + τ/θ·hypot, which is all
  that is used, hides most of these.
- Two divisions by one number. For one component of the flow they are multiplications by the reciprocal, each followed
  by its exact remainder (Markstein 1990), which rounds correctly; the other component's run in the divider meanwhile.
- Σ|Δu|², which stops the iterations. OpenCV adds up floats one after the other, so its sum has an error of its own.
  Here the sum is exact to 2⁻¹⁸, and it decides unless it is closer to the limit than that error can be; then the
  terms are added one after the other as well.

The dual update of a row is three steps that wait for a square root, then for a division. The loop runs them for three
neighbouring vectors at once, the last step of one beside the first step of the next but one, so that nothing waits.
"""

import numpy as np
from numba import njit

from pipeline.flow.compiled import kernel
from pipeline.flow.cpu_grid import ERROR, IX, IY, LEFT, NUM_PLANES, P11, P12, P21, P22, RHO, U1, U2
from pipeline.flow.simd import LANES, absolute, copysign, fma, lane_numbers, load, select, splat, sqrt, store, total

_FLAT = 2.0**-23  # |∇I|² up to which OpenCV leaves the flow to the smoothness term alone
_TINY_LENGTH = 1e-18  # added to hypot before a division: no 0 / 0 where the flow is constant, no change anywhere else
_ROUNDING = 2.0**-24  # relative error of one float32 operation, at most
_OWN_ROUNDING = 2.0**-18  # of the sum of |Δu|² as it is computed here
_KEEP_BELOW = 8  # times the limit: from there on |Δu|² is kept per pixel, in case it must be added up in order


@njit(inline="always")
def _primal(grid, row, above, x, lambda_theta, theta, first):
    """u ← v + θ·div p for 16 pixels at x; returns |Δu|². `first` marks the first pixels of the row."""
    u1 = load(grid, row + U1, x)
    u2 = load(grid, row + U2, x)
    ix = load(grid, row + IX, x)
    iy = load(grid, row + IY, x)
    rho = load(grid, row + RHO, x) + (ix * u1 + iy * u2)
    gradient = ix * ix + iy * iy
    zero = splat(np.float32(0))
    minus_rho = zero - rho
    within = select(gradient > splat(np.float32(_FLAT)), minus_rho / gradient, zero)
    step = select(absolute(rho) > lambda_theta * gradient, copysign(lambda_theta, minus_rho), within)

    p11 = load(grid, row + P11, x)
    p21 = load(grid, row + P21, x)
    p12 = load(grid, row + P12, x)
    p22 = load(grid, row + P22, x)
    p12_above = load(grid, above + P12, x)
    p22_above = load(grid, above + P22, x)
    div1 = (p11 - load(grid, row + P11, x - 1)) + (p12 - p12_above)
    div2 = (p21 - load(grid, row + P21, x - 1)) + (p22 - p22_above)
    if first:  # OpenCV adds up the first column in another order
        column0 = splat(np.float32(0.5)) > lane_numbers()
        div1 = select(column0, (p11 + p12) - p12_above, div1)
        div2 = select(column0, (p21 + p22) - p22_above, div2)

    new1 = (u1 + step * ix) + theta * div1
    new2 = (u2 + step * iy) + theta * div2
    store(grid, row + U1, x, new1)
    store(grid, row + U2, x, new2)
    delta1 = new1 - u1
    delta2 = new2 - u2
    return delta1 * delta1 + delta2 * delta2


@njit(inline="always")
def _primal_row(grid, y, width, lambda_theta, theta, keep):
    """Returns the row's Σ|Δu|² as float64, exact to 2⁻¹⁸."""
    row = (y + 1) * NUM_PLANES
    above = row - NUM_PLANES
    last = LEFT + (width - 1) // LANES * LANES  # the vector that holds the last pixel
    errors = _primal(grid, row, above, LEFT, lambda_theta, theta, True)
    if keep:
        store(grid, row + ERROR, LEFT, errors)
    for x in range(LEFT + LANES, last, LANES):
        error = _primal(grid, row, above, x, lambda_theta, theta, False)
        if keep:
            store(grid, row + ERROR, x, error)
        errors = errors + error
    if last > LEFT:
        error = _primal(grid, row, above, last, lambda_theta, theta, False)
        if keep:
            store(grid, row + ERROR, last, error)
        inside = splat(np.float32(LEFT + width - last)) > lane_numbers()
        errors = errors + select(inside, error, splat(np.float32(0)))
    # the forward difference of the last column is 0: its right neighbour is its equal
    grid[row + U1, LEFT + width] = grid[row + U1, LEFT + width - 1]
    grid[row + U2, LEFT + width] = grid[row + U2, LEFT + width - 1]
    return np.float64(total(errors))


@njit(inline="always")
def _start_length(grid, row, below, x, plane):
    """Forward differences a, b of u at x; a² + b² as a sum and its rounding error; the square root of the sum."""
    here = load(grid, row + plane, x)
    a = load(grid, row + plane, x + 1) - here
    b = load(grid, below + plane, x) - here
    aa = a * a
    bb = b * b
    square = aa + bb
    bb_seen = square - aa
    lost = (aa - (square - bb_seen)) + (bb - bb_seen)
    zero = splat(np.float32(0))
    lost = lost + (fma(a, a, zero - aa) + fma(b, b, zero - bb))
    return a, b, square, lost, sqrt(square)


@njit(inline="always")
def _update_dual(grid, row, x, plane_a, plane_b, a, b, norm, reciprocal, taut):
    """p ← (p + τ/θ·∇u) / norm by a correctly rounded reciprocal."""
    minus_norm = splat(np.float32(0)) - norm
    top_a = load(grid, row + plane_a, x) + taut * a
    top_b = load(grid, row + plane_b, x) + taut * b
    near_a = top_a * reciprocal
    near_b = top_b * reciprocal
    store(grid, row + plane_a, x, fma(fma(minus_norm, near_a, top_a), reciprocal, near_a))
    store(grid, row + plane_b, x, fma(fma(minus_norm, near_b, top_b), reciprocal, near_b))


@njit(inline="always")
def _halve_multiplied(square, lost, root, taut):
    """Second step of the first component. One division serves the Newton step and the reciprocal of the norm."""
    one = splat(np.float32(1))
    length = root + splat(np.float32(_TINY_LENGTH))
    near_norm = one + taut * root
    shared = splat(np.float32(0.5)) / (near_norm * length)
    residual = fma(splat(np.float32(0)) - root, root, square) + lost
    return residual, shared, length, near_norm, root


@njit(inline="always")
def _end_multiplied(grid, row, x, a, b, residual, shared, length, near_norm, root, taut):
    one = splat(np.float32(1))
    norm = one + taut * fma(residual, shared * near_norm, root)
    near = (shared + shared) * length
    reciprocal = fma(fma(splat(np.float32(0)) - norm, near, one), near, near)
    _update_dual(grid, row, x, P11, P12, a, b, norm, reciprocal, taut)


@njit(inline="always")
def _halve_divided(square, lost, root):
    """Second step of the second component, whose divisions the divider does."""
    half_inverse = splat(np.float32(0.5)) / (root + splat(np.float32(_TINY_LENGTH)))
    return fma(splat(np.float32(0)) - root, root, square) + lost, half_inverse, root


@njit(inline="always")
def _end_divided(grid, row, x, a, b, residual, half_inverse, root, taut):
    norm = splat(np.float32(1)) + taut * fma(residual, half_inverse, root)
    store(grid, row + P21, x, (load(grid, row + P21, x) + taut * a) / norm)
    store(grid, row + P22, x, (load(grid, row + P22, x) + taut * b) / norm)


@njit(inline="always")
def _dual_row(grid, y, last_y, width, taut):
    """p ← (p + τ/θ·∇u) / (1 + τ/θ·|∇u|) for row y, both components; see the top of this file for the order."""
    row = (y + 1) * NUM_PLANES
    below = row + NUM_PLANES if y < last_y else row  # the forward difference of the last row is 0
    x = LEFT
    a1, b1, square, lost, root = _start_length(grid, row, below, x, U1)
    residual1, shared, length, near_norm, root1 = _halve_multiplied(square, lost, root, taut)
    a2, b2, square, lost, root = _start_length(grid, row, below, x, U2)
    residual2, half_inverse, root2 = _halve_divided(square, lost, root)
    next_a1, next_b1, square1, lost1, new_root1 = _start_length(grid, row, below, x + LANES, U1)
    next_a2, next_b2, square2, lost2, new_root2 = _start_length(grid, row, below, x + LANES, U2)
    for x in range(LEFT, LEFT + width, LANES):
        _end_multiplied(grid, row, x, a1, b1, residual1, shared, length, near_norm, root1, taut)
        residual1, shared, length, near_norm, root1 = _halve_multiplied(square1, lost1, new_root1, taut)
        a1, b1 = next_a1, next_b1
        next_a1, next_b1, square1, lost1, new_root1 = _start_length(grid, row, below, x + 2 * LANES, U1)
        _end_divided(grid, row, x, a2, b2, residual2, half_inverse, root2, taut)
        residual2, half_inverse, root2 = _halve_divided(square2, lost2, new_root2)
        a2, b2 = next_a2, next_b2
        next_a2, next_b2, square2, lost2, new_root2 = _start_length(grid, row, below, x + 2 * LANES, U2)


@njit(inline="always")
def _sum_in_order(grid, height, width):
    """Σ|Δu|² as OpenCV adds it up: float32, row by row."""
    error = np.float32(0)
    for y in range(height):
        for x in range(LEFT, LEFT + width):
            error += grid[(y + 1) * NUM_PLANES + ERROR, x]
    return error


@njit(inline="always")
def _iterate_once(grid, height, width, lambda_theta, theta, taut, keep):
    """One iteration over the image; returns Σ|Δu|² and the largest error that OpenCV's own sum can have."""
    error = 0.0
    partial_sums = 0.0  # Σ over the additions of the sum so far: each may be off by one rounding of it
    for y in range(height):
        error += _primal_row(grid, y, width, lambda_theta, theta, keep)
        partial_sums += error * width
        if y > 0:  # the row above is complete, and what the next row needs of the old p lies in this one
            _dual_row(grid, y - 1, height - 1, width, taut)
    _dual_row(grid, height - 1, height - 1, width, taut)
    return error, 1.01 * _ROUNDING * partial_sums + _OWN_ROUNDING * error


@kernel
def iterate(grid, height, width, max_iterations, limit, last_error, lambda_theta, theta, taut):
    """Refine the flow of `grid` until Σ|Δu|² ≤ limit, at most `max_iterations` times.

    limit: float32, ε²·area. last_error: Σ|Δu|² of the iteration before, or a negative number if there is none in this
    warp. lambda_theta, theta, taut (τ/θ): float32. Returns the last Σ|Δu|² and whether it is within the limit.
    """
    lambda_thetas, thetas, tauts = splat(lambda_theta), splat(theta), splat(taut)
    error = last_error
    for _ in range(max_iterations):
        keep = error < _KEEP_BELOW * limit
        error, doubt = _iterate_once(grid, height, width, lambda_thetas, thetas, tauts, keep)
        small = error <= limit
        if keep and abs(error - limit) <= doubt:
            small = _sum_in_order(grid, height, width) <= limit
        if small:
            return error, True
    return error, False
