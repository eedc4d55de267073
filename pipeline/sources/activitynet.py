"""ActivityNet json: whole videos with labelled segments.

{"database": {"<id>": {"subset": "training", "annotations": [{"segment": [5.8, 16.2], "label": "Clean and jerk"}]}}}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.annotations.activitynet import Entry, read_entries
from pipeline.annotations.tidy import SPAN_FAULTS, span_fault
from pipeline.sources.issues import Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import Split, parse_split
from schemas.manifest import SEGMENT_FIELDS
from schemas.sources import ActivityNetSource


@dataclass(slots=True)
class _Video:
    name: str
    split: Split
    labels: list[str]  # of all annotations: a segment without a usable time still says what the video shows
    segments: list[tuple[float, float, str]]  # (start_s, end_s, label), in time order


@register("activitynet")
def index_activitynet(source: ActivityNetSource, scan: Scan, issues: Issues) -> Rows:
    """Videos are found as `v_<id>.*` or `<id>.*`. Labels are numbered by sorted name over the whole json; a video has
    the distinct labels of its annotations. The segment columns are added to the manifest."""
    videos = _read(source.json_path, issues)
    ids = {name: label_id for label_id, name in enumerate(sorted({label for v in videos for label in v.labels}))}
    rows = Rows(scan(source.videos), SEGMENT_FIELDS)
    rows.labels = list(ids)
    files = Lookup(rows.listing)
    for video in videos:
        file = files.stem(f"v_{video.name}")
        if file is None:
            file = files.stem(video.name)
        if file is None:
            detail = f"no video v_{video.name}.* or {video.name}.* in {source.videos}"
            issues.add("row_without_file", video.name, detail)
            continue
        starts_s = [start_s for start_s, _, _ in video.segments]
        ends_s = [end_s for _, end_s, _ in video.segments]
        segment_ids = [ids[label] for _, _, label in video.segments]
        label_ids = sorted(ids[label] for label in video.labels)
        rows.add(file, label_ids, split=video.split, value=video.name, extras=[starts_s, ends_s, segment_ids])
    return rows


def _read(path: str, issues: Issues) -> list[_Video]:
    """The videos of the json, in its order. Raises UsageError where it is not an ActivityNet json."""
    videos = []
    for entry in read_entries(path, issues):
        try:
            split = parse_split(entry.subset)
        except ValueError as error:
            issues.add("malformed_row", entry.name, str(error))
            continue
        videos.append(_Video(entry.name, split, list(entry.labels), sorted(_usable(entry, issues))))
    return videos


def _usable(entry: Entry, issues: Issues) -> Iterator[tuple[float, float, str]]:
    for start_s, end_s, label in entry.segments:
        fault = span_fault(start_s, end_s)
        if fault is None:
            yield start_s, end_s, label
        else:
            what = f"segment {[start_s, end_s]} {SPAN_FAULTS[fault]}"
            issues.add("bad_segment", entry.name, f"{label}: {what}; this segment is dropped")
