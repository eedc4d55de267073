"""Sports-1M: `URL 168,169` a line, several labels a video; label 0 is the first line of the label file."""

from __future__ import annotations

import re

import pyarrow as pa

from pipeline.sources.issues import Issues
from pipeline.sources.labels import name_labels, parse_label_id, read_label_names
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import check_utf8, read_lines
from schemas.sources import Sports1MSource

_VIDEO = re.compile(r"(?:[?&]v=|youtu\.be/|/v/|/embed/)([A-Za-z0-9_-]+)")


@register("sports1m")
def index_sports1m(source: Sports1MSource, scan: Scan, issues: Issues) -> Rows:
    """Videos are found as `<youtube id>.*` anywhere below the folder."""
    names = read_label_names(source.labels) if source.labels else None
    lines = read_lines(source.list)
    rows = Rows(scan(source.videos), [pa.field("youtube_id", pa.string())])
    files = Lookup(rows.listing)
    line_of_id: dict[str, int] = {}
    highest = -1
    for line, text in lines:
        if not text.strip():
            continue
        try:
            youtube_id, label_ids = _parse(text, len(names) if names else None)
        except ValueError as error:
            issues.add("malformed_row", text, str(error), line=line)
            continue
        earlier = line_of_id.setdefault(youtube_id, line)
        if earlier != line:
            issues.add("duplicate_row", youtube_id, f"line {earlier} has the same video; that one is kept", line=line)
            continue
        highest = max(highest, *label_ids)
        file = files.stem(youtube_id)
        if file is None:
            issues.add("row_without_file", youtube_id, f"no video of this name in {source.videos}", line=line)
            continue
        rows.add(file, label_ids, split=source.split, line=line, value=youtube_id, extras=[youtube_id])
    rows.labels = name_labels(names, highest)
    return rows


def _parse(text: str, num_labels: int | None) -> tuple[str, list[int]]:
    """(youtube id, label ids) of one line. Raises ValueError with the reason."""
    check_utf8(text)
    url, *fields = text.split(maxsplit=1)
    match = _VIDEO.search(url)
    if match is None:
        raise ValueError(f"no YouTube address in {url!r}")
    if not fields:
        raise ValueError("no labels after the address")
    label_ids = [parse_label_id(field.strip(), num_labels) for field in fields[0].split(",")]
    return match[1], list(dict.fromkeys(label_ids))
