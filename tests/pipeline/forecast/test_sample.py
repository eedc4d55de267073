import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.sample import pick

SIZES = st.lists(st.integers(0, 10**9), min_size=1, max_size=200)


def test_few_videos_are_all_taken() -> None:
    assert [(one.row, one.weight) for one in pick([5, 1, 3], 12)] == [(0, 1.0), (1, 1.0), (2, 1.0)]


@given(SIZES, st.integers(1, 20))
def test_each_is_taken_once_and_the_same_ones_each_time(sizes, count) -> None:
    first, again = pick(sizes, count), pick(sizes, count)
    assert first == again
    rows = [one.row for one in first]
    assert len(set(rows)) == len(rows) <= max(count, 1)
    assert set(rows) <= set(range(len(sizes)))
    assert all(one.weight > 0 for one in first)


def test_small_and_large_ones_appear() -> None:
    sizes = [1] * 990 + [1000] * 10  # the ten hold nine tenths of the bytes
    picked = [sizes[one.row] for one in pick(sizes, 12)]
    assert min(picked.count(1), picked.count(1000)) >= 4


def test_the_weights_sum_up_to_the_manifest() -> None:
    sizes = np.random.default_rng(0).lognormal(sigma=1.5, size=5000)
    picked = pick(sizes, 64)
    assert sum(one.weight for one in picked) == pytest.approx(5000, rel=0.1)
    assert sum(one.weight * sizes[one.row] for one in picked) == pytest.approx(sizes.sum(), rel=0.1)


def test_the_first_few_are_spread_over_all_sizes() -> None:
    sizes = np.arange(1, 1001)
    first = [sizes[one.row] for one in pick(sizes, 16)][:4]
    assert min(first) < 300
    assert max(first) > 700


def test_one_giant_does_not_take_all_places() -> None:
    picked = pick([10**12, *[1] * 99], 8)
    assert picked[0].row == 0 or any(one.row == 0 for one in picked)
    assert len(picked) > 2


def test_sizes_that_nobody_knows() -> None:
    assert len(pick([0.0] * 50, 6)) == 6
