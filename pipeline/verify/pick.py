"""Which items are made again: seeded, and spread over the units of a product."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence


def per_unit(num_items: Mapping[int, int], num: int, *, seed: int) -> dict[int, int]:
    """unit -> how many of its items to take: `num` in all, from as many units as there are.

    >>> per_unit({0: 5, 1: 0, 2: 1}, 4, seed=0)
    {0: 3, 2: 1}
    """
    units = [unit for unit, count in sorted(num_items.items()) if count]
    random.Random(seed).shuffle(units)
    left, taken = min(num, sum(num_items.values())), dict.fromkeys(units, 0)
    while left:
        for unit in units:
            if left and taken[unit] < num_items[unit]:
                taken[unit] += 1
                left -= 1
    return {unit: count for unit, count in sorted(taken.items()) if count}


def some_of(ids: Sequence[str], num: int, *, unit: int, seed: int) -> list[str]:
    """`num` of the ids of a unit, or all of them, in their order."""
    chosen = set(random.Random(f"{seed} {unit}").sample(range(len(ids)), min(num, len(ids))))
    return [name for place, name in enumerate(ids) if place in chosen]
