"""Kinetics: a csv of 10-second spans of YouTube videos, and a folder that has them cut out or whole.

Columns by name: youtube_id, time_start, time_end; label, split where the csv has them; others are ignored.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.sources.issues import Issues
from pipeline.sources.labels import MetLabels
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import Split, check_utf8, parse_split, read_lines
from schemas.errors import UsageError
from schemas.sources import KineticsSource

_REQUIRED = ("youtube_id", "time_start", "time_end")
Span = tuple[float, float]


@dataclass(slots=True)
class _Row:
    youtube_id: str
    start_s: float
    end_s: float
    label: str | None
    split: Split | None

    @property
    def key(self) -> str:
        """Equal for rows of the same video and times, to the millisecond."""
        return f"{self.youtube_id}@{round(self.start_s * 1000)}-{round(self.end_s * 1000)}"

    @property
    def trimmed_stem(self) -> str:
        """The name that the usual download scripts give the cut-out span."""
        return f"{self.youtube_id}_{int(self.start_s):06d}_{int(self.end_s):06d}"


@register("kinetics")
def index_kinetics(source: KineticsSource, scan: Scan, issues: Issues) -> Rows:
    """One manifest row per csv row with a file; labels are numbered by sorted name over the whole csv."""
    lines = read_lines(source.csv)
    columns = _header(source.csv, lines)
    rows = Rows(scan(source.videos), [pa.field("youtube_id", pa.string())])
    files, labels = Lookup(rows.listing), MetLabels()
    line_of_key: dict[str, int] = {}
    for line, text in lines:
        if not text.strip():
            continue
        try:
            row = _parse(text, columns)
        except ValueError as error:
            issues.add("malformed_row", text, str(error), line=line)
            continue
        key = row.key
        earlier = line_of_key.setdefault(key, line)
        if earlier != line:
            issues.add(
                "duplicate_row", key, f"line {earlier} has the same video and times; that one is kept", line=line
            )
            continue
        label_ids = [labels.id(row.label)] if row.label is not None else []
        file, span_s = _find(files, row, source.layout)
        if file is None:
            missing = row.youtube_id if source.layout == "full" else row.trimmed_stem
            issues.add("row_without_file", missing, f"no video of this name in {source.videos}", line=line)
            continue
        rows.add(
            file,
            label_ids,
            split=row.split,
            span_s=span_s,
            line=line,
            value=key,
            extras=[row.youtube_id],
        )
    rows.labels, rows.renumber = labels.sorted()
    return rows


def _find(files: Lookup, row: _Row, layout: str) -> tuple[int | None, Span | None]:
    """(the file, the span of it to use, or None for all of it). Videos may lie in a folder of their label, written
    with spaces or underscores."""
    folders = (row.label, row.label.replace(" ", "_")) if row.label else ()
    if layout != "full":
        file = files.stem(row.trimmed_stem, folders)
        if file is not None:
            return file, None
    file = files.stem(row.youtube_id, folders)
    return file, None if layout == "trimmed" else (row.start_s, row.end_s)


def _header(path: str, lines: Iterator[tuple[int, str]]) -> dict[str, int]:
    """Column places by name. Raises UsageError for a csv that does not start with Kinetics' header."""
    _, text = next(lines, (1, ""))
    names = [name.strip().strip('"') for name in text.split(",")]
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise UsageError(
            f"{path}: the first line must be Kinetics' header label,youtube_id,time_start,time_end,split; "
            f"it lacks {', '.join(missing)}: {text[:80]!r}"
        )
    return {name: place for place, name in enumerate(names)}


def _parse(text: str, columns: dict[str, int]) -> _Row:
    """One csv line. Raises ValueError with the reason. Lines are parsed one by one, so that a stray quote costs one
    row and not the rest of the file."""
    check_utf8(text)
    if '"' in text:
        try:
            fields = next(csv.reader([text], strict=True))
        except csv.Error as error:
            raise ValueError(f"not valid csv: {error}") from None
    else:
        fields = text.split(",")
    if len(fields) != len(columns):
        raise ValueError(f"{len(fields)} fields where the header has {len(columns)}")
    youtube_id = fields[columns["youtube_id"]].strip()
    if not youtube_id:
        raise ValueError("youtube_id is empty")
    start_s = _seconds("time_start", fields[columns["time_start"]])
    end_s = _seconds("time_end", fields[columns["time_end"]])
    if end_s <= start_s:
        raise ValueError(f"time_end {end_s:g} is not after time_start {start_s:g}")
    label = split = None
    if "label" in columns:
        label = fields[columns["label"]].strip()
        if not label:
            raise ValueError("label is empty")
    if "split" in columns:
        split = parse_split(fields[columns["split"]])
    return _Row(youtube_id, start_s, end_s, label, split)


def _seconds(column: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{column} {text!r} is not a number") from None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{column} {text!r} is not a time")
    return seconds
