"""What is told while units are made: workers tell of theirs, the runner of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.work import PoolRecord, UnitWork


@dataclass(frozen=True, slots=True)
class Progress:
    """One unit of one product was finished, or found finished."""

    product: str
    unit: int
    num_rows: int
    num_failed: int
    work: UnitWork | None = None  # what it cost; None where it was found finished


@dataclass(frozen=True, slots=True)
class Began:
    """A worker took up one unit of one product."""

    product: str
    unit: int
    node: str  # of the Ray node


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A worker could not make a unit that it had taken up; its error travels elsewhere."""

    product: str
    unit: int


@dataclass(frozen=True, slots=True)
class Started:
    """The runner knows what it runs on, and what each product gets of it."""

    pools: Mapping[str, PoolRecord]  # by product path


News = Progress | Began | GaveUp | Started


@dataclass(frozen=True, slots=True)
class StorageWait:
    """Storage does not answer a worker, or answers it again."""

    node: str  # of the Ray node, as in UnitWork
    sentence: str
    is_away: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A node lacks what a product's workers are made from, and gets none of its units."""

    product: str
    address: str
    reason: str


Trouble = StorageWait | LeftOut  # of machines, not of units: a person may want to know
