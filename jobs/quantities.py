"""Numbers as a person reads them: seconds, bytes, and ranges of both."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from schemas.forecast import Range

Scale = Sequence[tuple[float, float, str]]  # (below this, so much is one, its name), ascending
TIMES: Scale = ((100, 1, "s"), (6000, 60, "min"), (72 * 3600, 3600, "h"), (inf, 86400, "days"))
WORK: Scale = ((100, 1, "s"), (6000, 60, "min"), (inf, 3600, "h"))
SIZES: Scale = ((1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB"), (inf, 1e12, "TB"))
PLAIN: Scale = ((inf, 1, ""),)
SECONDS: Scale = ((1, 1e-3, "ms"), (inf, 1, "s"))


def show(number: float, scale: Scale) -> str:
    """`42 s`, `3.1 h`, `6.4 GB`."""
    one, name = next((one, name) for below, one, name in scale if number < below)
    return f"{digits(number / one)} {name}".strip()


def spread(about: Range, scale: Scale, prefix: str = "") -> str:
    """`3.1 (2.8–3.6) h`; the number alone where it is as good as certain."""
    one, name = next((one, name) for below, one, name in scale if about.value < below)
    low, value, high = (digits(number / one) for number in (about.low, about.value, about.high))
    around = "" if low == high else f" ({low}–{high})"
    return f"{value}{around} {prefix}{name}".strip()


def digits(number: float) -> str:
    """`1,234`, `42`, `3.1`, `0.042`."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def duration(seconds: float) -> str:
    """
    >>> duration(9.4), duration(252), duration(93784)
    ('9 s', '4 min 12 s', '26 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
