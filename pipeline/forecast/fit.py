"""From a few measured videos to the whole manifest: y = fixed + slope * x, with both never negative.

No measurement is thrown out as an outlier: where one video in ten costs ten times as much, it is half of the work.
What few videos can't tell shows in how far the resampled totals lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.forecast import Range

NUM_DRAWS = 400  # resampled totals
SEED = 6  # equal probes give equal ranges
LOW, HIGH = 10, 90  # percent


@dataclass(frozen=True, slots=True)
class Line:
    fixed: float
    slope: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.fixed + self.slope * x


def fit_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Line:
    """Least squares with the variance growing as x does. x, y, weight: (n,), x > 0.

    With such weights the fitted values of the sample sum up, weighted, to what was measured, whatever the true curve.
    """
    weight_x = weight / x
    sum_w, sum_wx, sum_wxx = weight_x.sum(), weight.sum(), (weight * x).sum()
    sum_wy, sum_wxy = (weight_x * y).sum(), (weight * y).sum()
    determinant = sum_w * sum_wxx - sum_wx**2
    if determinant > 1e-9 * sum_w * sum_wxx:
        slope = (sum_w * sum_wxy - sum_wx * sum_wy) / determinant
        fixed = (sum_wy - slope * sum_wx) / sum_w
        if slope >= 0 and fixed >= 0:
            return Line(float(fixed), float(slope))
        if slope < 0:
            return Line(float(sum_wxy / weight.sum()), 0.0)  # the mean
    return Line(0.0, float(sum_wxy / sum_wxx))  # in proportion


def grows_with(candidates: Mapping[str, np.ndarray], y: np.ndarray, weight: np.ndarray) -> str:
    """The name of the x by which each video of the sample is best told from the others. All arrays: (n,)."""
    errors = {name: _left_out_error(x, y, weight) for name, x in candidates.items()}
    return min(errors, key=lambda name: errors[name])


def _left_out_error(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    if len(y) < 3 or np.any(x <= 0):
        return 0.0 if len(y) < 3 else np.inf
    keep = ~np.eye(len(y), dtype=bool)
    guesses = [fit_line(x[others], y[others], weight[others])(x[i]) for i, others in enumerate(keep)]
    return float((weight * (np.array(guesses) - y) ** 2).sum())


# ---------------------------------------------------------------- numbers with their doubt


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A number, and what it would have been had other videos been probed."""

    value: float
    draws: np.ndarray  # (NUM_DRAWS,)

    def __add__(self, other: Doubtful | float) -> Doubtful:
        return self._with(other, np.add)

    def __mul__(self, other: Doubtful | float) -> Doubtful:
        return self._with(other, np.multiply)

    def at_least(self, other: Doubtful | float) -> Doubtful:
        return self._with(other, np.maximum)

    def _with(self, other: Doubtful | float, combine: np.ufunc) -> Doubtful:
        of_other = other if isinstance(other, Doubtful) else certain(other)
        return Doubtful(float(combine(self.value, of_other.value)), combine(self.draws, of_other.draws))

    @property
    def range(self) -> Range:
        low, high = np.percentile(self.draws, (LOW, HIGH))
        return Range(low=min(float(low), self.value), value=self.value, high=max(float(high), self.value))


def certain(value: float) -> Doubtful:
    return Doubtful(float(value), np.full(NUM_DRAWS, float(value)))


def resampled(count: int) -> np.ndarray:
    """(NUM_DRAWS, count) indices of a sample, drawn with replacement: the same for all that were measured together."""
    return np.random.default_rng(SEED).integers(count, size=(NUM_DRAWS, count))


@dataclass(frozen=True, slots=True)
class Total:
    """The sum over the manifest, and the largest unit."""

    whole: Doubtful
    largest_unit: float


def total(x: np.ndarray, starts: np.ndarray, *, of_sample: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Total:
    """Sum y over all rows of the manifest. x: (N,) of all rows; starts: (U,) the first row of each unit; of_sample, y,
    weight: (n,) the x, the measured and the weights of the sample."""
    sum_x, num = float(x.sum()), len(x)
    line = fit_line(of_sample, y, weight)
    draws = np.empty(NUM_DRAWS)
    for draw, chosen in enumerate(resampled(len(y))):
        drawn = fit_line(of_sample[chosen], y[chosen], weight[chosen])
        draws[draw] = drawn.fixed * num + drawn.slope * sum_x
    counts = np.diff(np.append(starts, num))
    units = line.fixed * counts + line.slope * np.add.reduceat(x, starts)
    return Total(Doubtful(line.fixed * num + line.slope * sum_x, draws), float(units.max()))


def ratio(top: np.ndarray, bottom: np.ndarray) -> Doubtful:
    """Sum over sum: seconds per clip, bytes per row. top, bottom: (n,)."""
    draws = [top[chosen].sum() / bottom[chosen].sum() for chosen in resampled(len(top))]
    return Doubtful(float(top.sum() / bottom.sum()), np.array(draws))
