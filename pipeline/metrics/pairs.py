"""Which rows of two tables are worth comparing: those of the same frame, video or class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pairs_of_same_key(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Indices (P,), (P,) of all pairs of rows of `first` (N,) and `second` (M,) that have the same key.

    In the order of `first`, and for each of its rows in the order of `second`.
    """
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    start = np.searchsorted(ordered, first, side="left")
    count = np.searchsorted(ordered, first, side="right") - start
    return np.repeat(np.arange(len(first)), count), order[expand(start, count)]


def expand(start: Ints, count: Ints) -> Ints:
    """start[0], start[0] + 1 … (count[0] of them), then start[1] …: the ranges behind one another."""
    before = np.cumsum(count) - count
    return np.repeat(start - before, count) + np.arange(count.sum())
