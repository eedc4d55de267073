import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.forecast.fit import certain, fit_line, grows_with, ratio, total

ONES = np.ones(6)
X = np.array([1.0, 2, 3, 5, 8, 13])
POSITIVE = st.floats(0.01, 1e6)


def test_a_line_is_found_again() -> None:
    line = fit_line(X, 3 + 2 * X, ONES)
    assert (line.fixed, line.slope) == (pytest.approx(3), pytest.approx(2))


def test_neither_part_is_ever_negative() -> None:
    proportional = fit_line(X, np.maximum(0, 2 * X - 4), ONES)
    assert proportional.fixed == 0
    assert proportional.slope > 0
    falling = fit_line(X, 20 - X, ONES)
    assert falling.slope == 0
    assert falling.fixed == pytest.approx(np.mean(20 - X))


@given(arrays(float, 8, elements=POSITIVE), arrays(float, 8, elements=POSITIVE), arrays(float, 8, elements=POSITIVE))
def test_what_is_fitted_sums_up_to_what_was_measured(x, y, weight) -> None:
    """Whatever the true curve is, the sample itself is predicted without bias."""
    line = fit_line(x, y, weight)
    assert (weight * line(x)).sum() == pytest.approx((weight * y).sum(), rel=1e-4)


def test_one_x_for_all_is_the_mean() -> None:
    line = fit_line(ONES, X, ONES)
    assert line(np.array([1.0]))[0] == pytest.approx(X.mean())


def test_what_tells_best_is_chosen() -> None:
    noise = np.array([5.0, 1, 7, 2, 9, 3])
    assert grows_with({"videos": ONES, "bytes": X, "segments": noise}, 0.5 + X, ONES) == "bytes"
    assert grows_with({"videos": ONES, "bytes": X, "segments": noise}, 4 + 0.001 * noise, ONES) == "segments"
    assert grows_with({"videos": ONES, "bytes": noise}, np.full(6, 4.0), ONES) == "videos"


def test_the_total_of_a_manifest_and_its_largest_unit() -> None:
    x = np.arange(1.0, 101)
    found = total(x, np.array([0, 50, 90]), of_sample=X, y=3 + 2 * X, weight=ONES)
    assert found.whole.value == pytest.approx(300 + 2 * x.sum())
    assert found.largest_unit == pytest.approx(3 * 40 + 2 * x[50:90].sum())
    assert found.whole.range.low == pytest.approx(found.whole.range.high)


def test_noise_widens_the_range_and_the_range_holds_the_truth() -> None:
    random = np.random.default_rng(1)
    x = random.lognormal(size=1000)
    true = 2 * x * random.lognormal(sigma=0.3, size=1000)
    held = 0
    for _ in range(40):
        rows = random.choice(1000, 12, replace=False)
        around = total(x, np.array([0]), of_sample=x[rows], y=true[rows], weight=np.ones(12)).whole.range
        assert around.low <= around.value <= around.high
        held += around.low <= true.sum() <= around.high
    assert held > 20  # 80 % are promised of many probes; twelve promise a little too much


def test_doubt_is_carried_through_sums_and_products() -> None:
    rate = ratio(np.array([2.0, 4, 9]), np.array([1.0, 2, 3]))
    assert rate.value == pytest.approx(2.5)
    both = rate * certain(10) + 5
    assert both.value == pytest.approx(30)
    assert both.range.low == pytest.approx(rate.range.low * 10 + 5)
    assert certain(3).at_least(rate).value == 3
