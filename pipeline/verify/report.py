"""What a verification found, product by product."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan, nan
from statistics import median
from typing import Literal

from pydantic import ValidationError

from schemas.errors import ReelmillError

Verdict = Literal["ok", "not all checked", "FAILED"]
Measure = Literal["levels", "px", "cosine"]


class NotCheckedError(ReelmillError):
    """Something can't be checked here. It says nothing against the product, and it is no pass."""

    @classmethod
    def of_settings(cls, product: str, error: ValueError) -> NotCheckedError:
        """For a card whose settings pydantic refuses."""
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        return cls(f"the card of {product} has settings that this version does not know ({where}: {first['msg']})")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Items that were made again from `made_from`, each with what it has in common with the stored one.

    levels  mean absolute difference of a clip's pixels, 0-255
    px      99th percentile of the absolute difference of a clip's flow components
    cosine  of a row of features
    """

    made_from: str  # "videos", "clips/rgb16"
    items: Literal["clips", "rows"]
    measure: Measure
    values: tuple[float, ...]
    remark: str = ""  # how they were made again, and what else there is to know

    @property
    def worst(self) -> float:
        if any(isnan(value) for value in self.values):
            return nan
        return min(self.values) if self.measure == "cosine" else max(self.values)

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(slots=True)
class ProductReport:
    """One product. `faults` speak against it, `unchecked` says what could not be looked at, `notes` do neither."""

    product: str
    num_units: int = 0
    num_files: int = 0
    num_bytes: int = 0
    is_hashed: bool = False
    comparisons: list[Comparison] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        if self.faults:
            return "FAILED"
        return "not all checked" if self.unchecked else "ok"


def numbers(values: list[int]) -> str:
    """Unit numbers for a sentence: the first few of many.

    >>> numbers([0, 1, 2, 3, 4, 5, 6])
    '000000, 000001, 000002, 000003, 000004 and 2 more'
    """
    shown = ", ".join(f"{value:06d}" for value in values[:5])
    return shown if len(values) <= 5 else f"{shown} and {len(values) - 5} more"
