"""The inner iterations against the formulas in numpy, one IEEE operation after the other; and when they stop."""

import math

import numpy as np
import pytest
from footage import moving

from pipeline.flow import cpu, tvl1
from pipeline.flow.cpu_grid import ERROR, IX, IY, LEFT, NUM_PLANES, P11, P12, P21, P22, RHO, U1, U2, image_of, new_grid
from pipeline.flow.cpu_iterate import iterate
from pipeline.flow.params import TVL1Params

F32 = np.float32
WEIGHTS = F32(0.15 * 0.3), F32(0.3), F32(0.25 / 0.3)  # λθ, θ, τ/θ
NEVER = F32(-1)  # a limit that no sum reaches
SIZES = [(16, 16), (17, 33), (16, 31), (33, 48), (21, 100)]


def new_state(height, width, *, seed=0, scale=1.0):
    """A grid as in the middle of a warp, with a region without gradient and one without motion."""
    rng = np.random.default_rng(seed)
    grid = new_grid(height, width)

    def put(plane, size):
        image_of(grid, plane, height, width)[:] = rng.standard_normal((height, width)) * size

    for plane in (U1, U2):
        put(plane, scale)
    for plane in (P11, P12, P21, P22):
        put(plane, 0.4)
    for plane in (IX, IY, RHO):
        put(plane, 20)
    put(RHO, 1)
    for plane in (IX, IY):
        image_of(grid, plane, height, width)[2:7, 3:9] = 0
        image_of(grid, plane, height, width)[8, 8] = 2e-4  # |∇I|² = 8e-8, below OpenCV's limit of 1.2e-7
    for plane in (U1, U2):
        image_of(grid, plane, height, width)[9:13, 4:12] = 0.25
    return grid


def planes(grid, height, width, numbers):
    return [image_of(grid, number, height, width).copy() for number in numbers]


def divergence(px, py):
    """tvl1flow.cpp's: the first column is added up in another order."""
    result = np.diff(px, axis=1, prepend=F32(0)) + np.diff(py, axis=0, prepend=F32(0))
    result[:, 0] = (px[:, 0] + py[:, 0]) - np.concatenate([[F32(0)], py[:-1, 0]])
    return result


def in_numpy(state):
    """estimateV, estimateU and estimateDualVariables of (u1, u2, p11 … p22, ix, iy, rho_c); also |Δu|² per pixel."""
    u1, u2, p11, p12, p21, p22, ix, iy, rho_c = state
    lambda_theta, theta, taut = WEIGHTS
    rho, gradient = rho_c + (ix * u1 + iy * u2), ix * ix + iy * iy
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(gradient > np.finfo(F32).eps, -rho / gradient, F32(0))
    step = np.where(rho > lambda_theta * gradient, -lambda_theta, step)
    step = np.where(rho < -(lambda_theta * gradient), lambda_theta, step)
    new1 = (u1 + step * ix) + theta * divergence(p11, p12)
    new2 = (u2 + step * iy) + theta * divergence(p21, p22)
    dual = []
    for flow, px, py in ((new1, p11, p12), (new2, p21, p22)):
        dx, dy = np.diff(flow, axis=1, append=flow[:, -1:]), np.diff(flow, axis=0, append=flow[-1:])
        length = np.sqrt(dx.astype(np.float64) ** 2 + dy.astype(np.float64) ** 2).astype(F32)
        norm = F32(1) + taut * length
        dual += [(px + taut * dx) / norm, (py + taut * dy) / norm]
    delta1, delta2 = new1 - u1, new2 - u2
    return [new1, new2, *dual, ix, iy, rho_c], delta1 * delta1 + delta2 * delta2


def in_order(errors):
    """OpenCV's float sum of |Δu|²: one addition after the other."""
    return np.cumsum(errors, dtype=F32, axis=None)[-1]


FIELDS = (U1, U2, P11, P12, P21, P22, IX, IY, RHO)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 30.0])
def test_formulas(height, width, scale) -> None:
    grid = new_state(height, width, seed=height, scale=scale)
    state = planes(grid, height, width, FIELDS)
    for _ in range(4):
        state, errors = in_numpy(state)
        error, small, sure = iterate(grid, height, width, 1, NEVER, -1.0, False, *WEIGHTS)
        assert (small, sure) == (False, True)
        assert error == pytest.approx(errors.sum(dtype=np.float64), rel=1e-6)
        for plane, want in zip(FIELDS, state, strict=True):
            assert np.array_equal(image_of(grid, plane, height, width), want), plane


def test_lengths_in_the_middle_between_two_floats() -> None:
    # (p² − q²)² + (2pq)² = (p² + q²)²: with 25 bits, that root is a tie, which OpenCV rounds to even
    rng = np.random.default_rng(0)
    p, q = rng.integers(1000, 5700, (2, 20000)).astype(np.float64)
    a, b, length = np.abs(p * p - q * q), 2 * p * q, p * p + q * q
    hard = (length >= 1 << 24) & (length < 1 << 25) & (length % 2 == 1) & (a < 1 << 24)
    a, b = (side[hard][:256] * 2.0**-20 for side in (a, b))
    assert len(a) == 256
    assert np.array_equal(a, a.astype(F32))
    assert np.array_equal(b, b.astype(F32))
    height = width = 33
    grid = new_grid(height, width)
    u = image_of(grid, U1, height, width), image_of(grid, U2, height, width)
    for number, (dx, dy) in enumerate(zip(a, b, strict=True)):
        y, x = 2 * (number // 16), 2 * (number % 16)
        for component in u:  # differences to a zero are exact
            component[y, x + 1], component[y + 1, x] = dx, dy
    state, _ = in_numpy(planes(grid, height, width, FIELDS))
    iterate(grid, height, width, 1, NEVER, -1.0, False, *WEIGHTS)
    for plane in (P11, P12, P21, P22):
        assert np.array_equal(image_of(grid, plane, height, width), state[plane])


def test_iterations_in_one_call_are_those_of_single_calls() -> None:
    height, width = 18, 50
    grids = [new_state(height, width) for _ in range(2)]
    iterate(grids[0], height, width, 7, NEVER, -1.0, False, *WEIGHTS)
    for _ in range(7):
        iterate(grids[1], height, width, 1, NEVER, -1.0, False, *WEIGHTS)
    for plane in FIELDS:
        assert np.array_equal(*(image_of(grid, plane, height, width) for grid in grids))


def test_no_pixel_depends_on_the_padding() -> None:
    height, width = 17, 35
    grids = [new_state(height, width) for _ in range(2)]
    rows = grids[1].reshape(height + 2, NUM_PLANES, -1)
    rows[:, :, LEFT + width :] = np.nan
    rows[height + 1] = np.nan
    results = [iterate(grid, height, width, 5, NEVER, -1.0, False, *WEIGHTS) for grid in grids]
    assert results[0] == results[1]
    for plane in FIELDS:
        assert np.array_equal(*(image_of(grid, plane, height, width) for grid in grids))


def errors_of_first(height, width, *, count, seed):
    """|Δu|² per pixel of the first iterations from `new_state`."""
    state = planes(new_state(height, width, seed=seed), height, width, FIELDS)
    found = []
    for _ in range(count):
        state, errors = in_numpy(state)
        found.append(errors)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_sum_in_order_decides_at_the_limit(seed) -> None:
    height, width = 40, 70
    (errors,) = errors_of_first(height, width, count=1, seed=seed)
    opencvs = in_order(errors)
    assert float(opencvs) != errors.sum(dtype=np.float64)
    for limit, expected in ((opencvs, True), (np.nextafter(opencvs, F32(0)), False)):
        grid = new_state(height, width, seed=seed)
        _, small, sure = iterate(grid, height, width, 1, limit, -1.0, False, *WEIGHTS)
        assert (small, sure) == (expected, True)
        assert np.array_equal(image_of(grid, ERROR, height, width), errors)


@pytest.mark.parametrize("seed", range(4))
def test_stops_in_the_iteration_in_which_opencv_does(seed) -> None:
    height, width, count = 24, 37, 6
    sums = [in_order(errors) for errors in errors_of_first(height, width, count=count, seed=seed)]
    assert sums == sorted(sums, reverse=True)
    for number in range(1, count):
        alone, together = (new_state(height, width, seed=seed) for _ in range(2))
        iterate(alone, height, width, number + 1, NEVER, -1.0, False, *WEIGHTS)
        _, small, sure = iterate(together, height, width, 30, sums[number], -1.0, True, *WEIGHTS)
        assert (small, sure) == (True, True)
        assert np.array_equal(image_of(alone, P22, height, width), image_of(together, P22, height, width))


def test_says_when_it_can_not_tell() -> None:
    height, width = 40, 70
    (errors,) = errors_of_first(height, width, count=1, seed=0)
    limit = in_order(errors)
    fell_far = float(limit) * 8.1  # so far above the limit, |Δu|² is not kept
    _, small, sure = iterate(new_state(height, width), height, width, 1, limit, fell_far, False, *WEIGHTS)
    assert (small, sure) == (False, False)
    _, small, sure = iterate(new_state(height, width), height, width, 1, limit, fell_far, True, *WEIGHTS)
    assert (small, sure) == (True, True)
    _, small, sure = iterate(new_state(height, width), height, width, 1, F32(2) * limit, 1e30, False, *WEIGHTS)
    assert (small, sure) == (True, True)  # no doubt, no need


def epsilon_for(limit, area):
    """epsilon with float32(epsilon² · area) == limit."""
    root = math.sqrt(float(limit) / area)
    found = (root * (1 + step * 1e-10) for step in range(-2000, 2000))
    return next(epsilon for epsilon in found if F32(epsilon * epsilon * area) == limit)


@pytest.mark.parametrize("weights", [{"lambda_": 1.0}, {"tau": 0.001, "lambda_": 1.0}])
def test_sum_that_falls_from_far_above_the_limit_to_the_limit(weights, monkeypatch) -> None:
    # the second iteration changes the flow 8 to 100 times less than the first; take its sum for the limit
    height, width = 48, 64
    frames = moving(height, width, step_px=(-1.1, 2.3), seed=45)
    settings = {"num_scales": 1, "num_warps": 1, "inner_iterations": 5, "outer_iterations": 1, **weights}
    sums, again, real = [], [], iterate

    def spy(grid, height, width, num, limit, error, *rest):
        for _ in range(num):
            error, _, _ = real(grid, height, width, 1, limit, error, True, *rest[1:])
            sums.append(in_order(image_of(grid, ERROR, height, width)))
        return error, False, True

    monkeypatch.setattr(cpu, "iterate", spy)
    tvl1(*frames, backend="cpu", params=TVL1Params(epsilon=1e-9, **settings))
    assert sums[0] > 8 * sums[1]
    assert sums[1] > sums[2]

    def watch(*args):
        result = real(*args)
        again.append(not result[2])
        return result

    monkeypatch.setattr(cpu, "iterate", watch)
    flows = []
    for limit in (sums[1], np.nextafter(sums[1], F32(0))):
        params = TVL1Params(epsilon=epsilon_for(limit, height * width), **settings)
        flows.append(tvl1(*frames, backend="cpu", params=params))
        assert np.array_equal(flows[-1], tvl1(*frames, backend="opencv", params=params))
    assert any(again)
    assert not np.array_equal(*flows)
