"""Which videos a plan looks at: few, the same each time, and spread over all sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SCATTER = 2654435761  # Knuth's multiplier: spreads consecutive rows over 32 bits


@dataclass(frozen=True, slots=True)
class Picked:
    """A manifest row of the sample."""

    row: int
    weight: float  # how many rows of the manifest it stands for


def pick(sizes: Sequence[float], count: int) -> list[Picked]:
    """`count` rows, or fewer where few rows hold most of the bytes; all rows where there are no more.

    The rows stand on a line by size, each as long as half its share of the rows and half its share of the bytes
    together; the line is cut into `count` equal parts and the row in the middle of each is taken. So the small ones,
    which are many, and the large ones, which are most of the work, both appear. The order is such that the first few
    are spread over all sizes, too.
    """
    bytes_of = np.asarray(sizes, np.float64)
    num_rows = len(bytes_of)
    if num_rows <= count:
        return [Picked(row, 1.0) for row in range(num_rows)]
    share = np.full(num_rows, 0.5 / num_rows)
    share = share + 0.5 * bytes_of / bytes_of.sum() if bytes_of.sum() > 0 else 2 * share
    scattered = np.arange(num_rows, dtype=np.uint64) * np.uint64(SCATTER) % np.uint64(1 << 32)
    order = np.lexsort((scattered, bytes_of))  # rows of equal size in no order that means anything
    middles = (np.arange(count) + 0.5) / count
    places = np.minimum(np.searchsorted(np.cumsum(share[order]), middles), num_rows - 1)
    places = places[_spread(count)]
    taken = dict.fromkeys(int(order[place]) for place in places)
    times = {row: int(np.count_nonzero(order[places] == row)) for row in taken}
    # Hansen and Hurwitz: a row that was hit `times` times and expected `count * share` times
    return [Picked(row, times[row] / (count * float(share[row]))) for row in taken]


def _spread(count: int) -> list[int]:
    """0 … count - 1 in van der Corput's order: any first few of them are spread over the whole."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return [number for number in reversed_bits if number < count]
