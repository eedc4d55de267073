"""ActivityNet json: whole videos with labelled segments.

{"database": {"<id>": {"subset": "training", "annotations": [{"segment": [5.8, 16.2], "label": "Clean and jerk"}]}}}
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.annotations.activitynet import Entry, read_entries
from pipeline.annotations.tidy import SPAN_FAULTS, span_fault
from pipeline.sources.issues import Issues
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.sources.segments import LabelledVideo, segment_rows
from pipeline.textlist import parse_split
from schemas.sources import ActivityNetSource


@register("activitynet")
def index_activitynet(source: ActivityNetSource, scan: Scan, issues: Issues) -> Rows:
    """Videos are found as `v_<id>.*` or `<id>.*`; see `segment_rows`."""
    videos = []
    for entry in read_entries(source.json_path, issues):
        try:
            split = parse_split(entry.subset)
        except ValueError as error:
            issues.add("malformed_row", entry.name, str(error))
            continue
        segments = sorted(_usable(entry, issues))
        videos.append(LabelledVideo(entry.name, split, list(entry.labels), segments))
    return segment_rows(videos, source.videos, scan, issues)


def _usable(entry: Entry, issues: Issues) -> Iterator[tuple[float, float, str]]:
    for start_s, end_s, label in entry.segments:
        fault = span_fault(start_s, end_s)
        if fault is None:
            yield start_s, end_s, label
        else:
            what = f"segment {[start_s, end_s]} {SPAN_FAULTS[fault]}"
            issues.add("bad_segment", entry.name, f"{label}: {what}; this segment is dropped")
