"""Each vector operation against numpy's float32, bit for bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numba import njit
from numba.core.errors import NumbaError

from pipeline.flow import simd
from pipeline.flow.simd import (
    any_lane,
    copy_left_neighbour,
    copysign,
    fma,
    hypot_in_double,
    lane_numbers,
    load,
    load4,
    load_at,
    load_first_of_4,
    load_second_of_4,
    load_third_of_4,
    maximum,
    minimum,
    select,
    splat,
    splat4,
    store,
    store_at,
    to_int,
    total,
)

F32 = np.float32
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan, 2**-126, 16777215.0, -2.5, 7]


def bits(array):
    return np.where(np.isnan(array), 0x7FC00000, np.ascontiguousarray(array, F32).view(np.int32))


def operands(num):
    """(num, rows, 16) float32: all sizes and signs, and special values in every combination."""
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((num, 40, 16)) * 10.0 ** rng.integers(-12, 12, (num, 40, 16))]
    rows.append(np.stack([np.stack([np.roll(SPECIAL, shift * k) for shift in range(16)]) for k in range(num)]))
    return np.concatenate(rows, axis=1).astype(F32)


def applied(kernel, *arrays):
    out = np.empty_like(arrays[0])
    kernel(*arrays, out)
    return out


def two(operation):
    """A numba function (a, b, out) of arrays (rows, 16)."""

    @njit
    def run(a, b, out):
        for y in range(a.shape[0]):
            store(out, y, 0, operation(load(a, y, 0), load(b, y, 0)))

    return run


def one(operation):
    @njit
    def run(a, out):
        for y in range(a.shape[0]):
            store(out, y, 0, operation(load(a, y, 0)))

    return run


BINARY = {
    "add": (njit(lambda a, b: a + b), np.add),
    "sub": (njit(lambda a, b: a - b), np.subtract),
    "mul": (njit(lambda a, b: a * b), np.multiply),
    "div": (njit(lambda a, b: a / b), np.divide),
    "minimum": (njit(lambda a, b: minimum(a, b)), lambda a, b: np.where(a < b, a, b)),
    "maximum": (njit(lambda a, b: maximum(a, b)), lambda a, b: np.where(a > b, a, b)),
    "copysign": (njit(lambda a, b: copysign(a, b)), np.copysign),
    "where greater": (njit(lambda a, b: select(a > b, a, b + a)), lambda a, b: np.where(a > b, a, b + a)),
    "where less": (njit(lambda a, b: select(a < b, a, b + a)), lambda a, b: np.where(a < b, a, b + a)),
    "where unequal": (njit(lambda a, b: select(a != b, a, a * b)), lambda a, b: np.where(a != b, a, a * b)),
    "where both": (
        njit(lambda a, b: select((a < b) & (a > splat(F32(0))), a, b)),
        lambda a, b: np.where((a < b) & (a > 0), a, b),
    ),
    "hypot": (
        njit(lambda a, b: hypot_in_double(a, b)),
        lambda a, b: np.sqrt(np.float64(a) ** 2 + np.float64(b) ** 2).astype(F32),
    ),
    "no contraction": (njit(lambda a, b: a * b + b), lambda a, b: a * b + b),
}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name) -> None:
    ours, numpys = BINARY[name]
    a, b = operands(2)
    assert np.array_equal(bits(applied(two(ours), a, b)), bits(numpys(a, b)))


UNARY = {
    "sqrt": (njit(lambda a: simd.sqrt(a)), np.sqrt),
    "floor": (njit(lambda a: simd.floor(a)), np.floor),
    "negative": (njit(lambda a: simd.negative(a)), np.negative),
    "absolute": (njit(lambda a: simd.absolute(a)), np.abs),
}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name) -> None:
    ours, numpys = UNARY[name]
    (a,) = operands(1)
    halves = (np.arange(-160, 160, dtype=F32) / 2).reshape(-1, 16)
    for values in (a, halves):
        assert np.array_equal(bits(applied(one(ours), values)), bits(numpys(values)))


@njit
def _fma(a, b, c, out):
    for y in range(a.shape[0]):
        store(out, y, 0, fma(load(a, y, 0), load(b, y, 0), load(c, y, 0)))


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 60, 16)).astype(F32)
    c = -(a * b)  # what is left is the rounding error of the product, which float64 holds exactly
    left = applied(_fma, a, b, c)
    assert np.array_equal(left, (np.float64(a) * b + c).astype(F32))
    assert (left != 0).mean() > 0.9
    c = (rng.standard_normal((60, 16)) * 10.0 ** rng.integers(-6, 6, (60, 16))).astype(F32)
    for x, y, z, result in zip(*(array.ravel().tolist() for array in (a, b, c, applied(_fma, a, b, c))), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        near = F32(result)
        distances = [abs(Fraction(float(f)) - exact) for f in (near, *np.nextafter(near, F32([-np.inf, np.inf])))]
        assert distances[0] == min(distances)


@njit
def _any(a, b):
    return any_lane(load(a, 0, 0) != load(b, 0, 0))


def test_any_lane() -> None:
    a = np.arange(16, dtype=F32)[None]
    assert not _any(a, a.copy())
    for lane in range(16):
        for other in (99, np.nan):
            b = a.copy()
            b[0, lane] = other
            assert _any(a, b)


@njit
def _constants(value, number, out, ints):
    store(out, 0, 0, splat(value))
    store(out, 1, 0, lane_numbers())
    store(out, 2, 0, splat4(value))
    store(ints, 0, 0, splat(number))


def test_constants() -> None:
    out, ints = np.full((3, 16), F32(7)), np.zeros((1, 16), np.int32)
    _constants(F32(0.1), np.int32(-5), out, ints)
    assert (out[0] == F32(0.1)).all()
    assert np.array_equal(out[1], np.arange(16))
    assert np.array_equal(out[2], [F32(0.1)] * 4 + [7] * 12)  # a vector of four touches four
    assert (ints == -5).all()


@njit
def _to_int(a, factor, ints):
    store(ints, 0, 0, to_int(load(a, 0, 0)) * splat(factor) + splat(np.int32(3)))


def test_whole_numbers() -> None:
    a = F32([[0, -0.0, 1, -1, -3, 5, 100, -100, 2**24, -(2**24), 8, 9, 10, 11, 12, 2**20]])
    ints = np.zeros((1, 16), np.int32)
    _to_int(a, np.int32(-6), ints)
    assert np.array_equal(ints, a.astype(np.int32) * -6 + 3)


@njit
def _total(a):
    return total(load(a, 0, 0))


def test_total_adds_pairs() -> None:
    a = (np.random.default_rng(0).standard_normal((1, 16)) * 1e3).astype(F32)
    expected = a[0]
    while len(expected) > 1:
        expected = expected[::2] + expected[1::2]
    assert bits(F32(_total(a))) == bits(expected[0])
    assert _total(a) == pytest.approx(math.fsum(a[0].tolist()), rel=1e-4)


@njit
def _copies(image, out, y, x):
    store(out, 0, 0, load(image, y, x))
    store(out, 1, 0, load4(image, y, x) * splat4(np.float32(1)))
    store(out, 2, 0, load_first_of_4(image, y, x))
    store(out, 3, 0, load_second_of_4(image, y, x))
    store(out, 4, 0, load_third_of_4(image, y, x))


@pytest.mark.parametrize(("y", "x"), [(0, 0), (1, 3), (2, 36)])
def test_loads(y, x) -> None:
    image = np.random.default_rng(0).standard_normal((3, 100)).astype(F32)
    out = np.zeros((5, 16), F32)
    _copies(image, out, y, x)
    assert np.array_equal(out[0], image[y, x : x + 16])
    assert np.array_equal(out[1, :4], image[y, x : x + 4])
    for k in range(3):
        assert np.array_equal(out[2 + k], image[y, x + k : x + 64 : 4][:16])


@njit
def _store(image, y, x):
    store(image, y, x, splat(np.float32(1)))


@njit
def _by_address(image, source, index):
    store_at(image.ctypes.data, index, load_at(source.ctypes.data, index - 3))
    copy_left_neighbour(image.ctypes.data, index + 20)


def test_stores_touch_their_lanes_alone() -> None:
    image = np.zeros((3, 50), F32)
    _store(image, 1, 34)
    expected = np.zeros((3, 50), F32)
    expected[1, 34:] = 1
    assert np.array_equal(image, expected)


def test_addresses() -> None:
    rng = np.random.default_rng(0)
    image, source = rng.standard_normal((2, 3, 50)).astype(F32)
    expected = image.copy()
    _by_address(image, source, 60)
    expected.ravel()[60:76] = source.ravel()[57:73]
    expected.ravel()[80] = expected.ravel()[79]
    assert np.array_equal(image, expected)


def test_what_has_no_meaning_is_not_compiled() -> None:
    @njit
    def mixed(a):
        return select(load(a, 0, 0) > splat(np.float32(0)), splat4(np.float32(1)), load(a, 0, 0))

    @njit
    def of_int64(a):
        store(a, 0, 0, splat(3))

    for function in (mixed, of_int64):
        with pytest.raises(NumbaError, match=r"Cannot cast F32x4 to F32x16|splat"):
            function(np.zeros((1, 16), F32))
