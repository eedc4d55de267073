"""Source formats by kind. A new one is a file with one decorated function, named in `pipeline.sources`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.sources.issues import Issues
from pipeline.sources.listing import Listing
from pipeline.sources.rows import Rows

Scan = Callable[[str], Listing]  # lists a folder of videos; raises UsageError where it can't
# Reads a source section: opens its lists first, so that a wrong path is found before a long scan; then scans, matches
# rows to files, and returns the rows. What it can't use goes to the issues.
Indexer = Callable[[Any, Scan, Issues], Rows]

SOURCES: dict[str, Indexer] = {}


def register(kind: str) -> Callable[[Indexer], Indexer]:
    """Register an indexer for the config sections of that `kind`."""

    def enter(indexer: Indexer) -> Indexer:
        assert kind not in SOURCES, f"two sources of kind {kind!r}"
        SOURCES[kind] = indexer
        return indexer

    return enter
