"""Numbers of text files."""

from __future__ import annotations

import math


def finite(cell: str, what: str, *, nan: bool = False) -> float:
    """The number in a cell. Raises ValueError, naming `what` it is, for anything else; `nan` lets NaN pass."""
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{what} {cell!r} is not a finite number") from None
    if "_" in cell or not (math.isfinite(value) or (nan and math.isnan(value))):
        raise ValueError(f"{what} {cell!r} is not a finite number")
    return value


def is_id(cell: str) -> bool:
    """Whether a cell is a whole number from 0 that an int64 can hold."""
    return cell.isascii() and cell.isdecimal() and len(cell) <= 19 and int(cell) < 1 << 63
