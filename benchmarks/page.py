"""Puts what a benchmark says between its markers on a page of docs/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def put(page: str, marker: str, lines: Sequence[str]) -> None:
    """Replace the lines between `<!-- marker: begin -->` and `<!-- marker: end -->`."""
    path, begin, end = DOCS / page, f"<!-- {marker}: begin -->", f"<!-- {marker}: end -->"
    text = path.read_text()
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"{path} has no markers {marker}")
    path.write_text("\n".join([before + begin, *lines, end]) + after)
