"""Whether rows of features that were made again agree with the stored ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from pipeline.stages.feature_rows import Row

Key = tuple[str, str, float]  # clip_id, view, start_s


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a row that was made again compares with the stored one."""

    cosine: float
    length: float  # of the one made again, in lengths of the stored one


def agreement(stored: np.ndarray, again: np.ndarray) -> Agreement:
    """Of two arrays of one shape; two of zeros agree, and a NaN agrees with nothing."""
    a, b = stored.astype(np.float64).ravel(), again.astype(np.float64).ravel()
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not any(lengths):
        return Agreement(1.0, 1.0)
    if not all(lengths):
        return Agreement(0.0, float("inf"))
    return Agreement(float(a @ b / (lengths[0] * lengths[1])), lengths[1] / lengths[0])


class Origin:
    """Rows that were made again from one origin: their cosines, and those that are off."""

    def __init__(self, name: str, min_cosine: float) -> None:
        self.name, self._min_cosine = name, min_cosine
        self._max_scale = sqrt(2 * (1 - min_cosine))  # as far as the bound lets vectors of one length lie apart
        self._found: dict[str, dict[Key, float]] = {}  # clip_id -> the cosines of its rows
        self._off: Counter[str] = Counter()  # clip_id -> rows that are off
        self.faults: list[str] = []  # a sentence for each of them

    @property
    def cosines(self) -> list[float]:
        return [cosine for of_clip in self._found.values() for cosine in of_clip.values()]

    @property
    def num_off(self) -> int:
        return self._off.total()

    def compare(self, stored: Mapping[Key, np.ndarray], remade: Iterator[tuple[Row, np.ndarray]]) -> None:
        """Compare all rows of some clips of a unit with what is stored of the unit."""
        seen: set[Key] = set()
        for row, values in remade:
            key = (row.clip_id, row.view, row.start_s)
            seen.add(key)
            problem = self._problem(key, stored.get(key), values)
            if problem:
                self._tell(key, problem)
        clip_ids = {clip_id for clip_id, _, _ in seen}
        for key in sorted(stored.keys() - seen):
            if key[0] in clip_ids:
                self._tell(key, f"this row is stored, and {self.name} give none")

    def take_over(self, clip_id: str, other: Origin) -> None:
        """A clip whose input is the same to the byte gives the same rows; what is off is named already."""
        self._found[clip_id] = other._found.get(clip_id, {})
        self._off[clip_id] = other._off[clip_id]

    def _problem(self, key: Key, stored: np.ndarray | None, again: np.ndarray) -> str | None:
        if stored is None:
            return f"{self.name} give this row, and it is not stored"
        if stored.shape != again.shape:
            return f"its shape is {stored.shape}, and {self.name} give {again.shape}"
        found = agreement(stored, again)
        self._found.setdefault(key[0], {})[key] = found.cosine
        if not found.cosine >= self._min_cosine:
            return f"cosine {found.cosine:.6f} to the row made again from {self.name}, under {self._min_cosine:g}"
        if not abs(found.length - 1) <= self._max_scale:
            return (
                f"the row made again from {self.name} is {found.length:.3f} times as long: the input had another scale"
            )
        return None

    def _tell(self, key: Key, problem: str) -> None:
        clip_id, view, start_s = key
        self._off[clip_id] += 1
        self.faults.append(f"clip {clip_id}, view {view}, from {start_s:g} s: {problem}")
