"""ActivityNet json: whole videos with labelled segments.

{"database": {"<id>": {"subset": "training", "annotations": [{"segment": [5.8, 16.2], "label": "Clean and jerk"}]}}}
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from pipeline.sources.issues import Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.sources.textlist import Split, check_utf8, parse_split, read_bytes
from schemas.errors import UsageError
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
    repeated: list[str] = []

    def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value:
                repeated.append(key)
            value.setdefault(key, item)
        return value

    try:
        root = json.loads(read_bytes(path), object_pairs_hook=first_of_each)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UsageError(f"{path}: not valid JSON ({error})") from None
    database = root.get("database") if isinstance(root, dict) else None
    if not isinstance(database, dict):
        raise UsageError(f'{path}: not an ActivityNet json: it has no "database" with one entry per video')
    for name in repeated:
        if name in database:
            issues.add("duplicate_row", name, "the json names this video twice; the first entry is kept")
    videos = []
    for name, entry in database.items():
        try:
            videos.append(_parse(name, entry, issues))
        except ValueError as error:
            issues.add("malformed_row", name, str(error))
    return videos


def _parse(name: str, entry: Any, issues: Issues) -> _Video:
    """One entry of the database. Raises ValueError with the reason; a bad segment is dropped, with an issue."""
    if not isinstance(entry, dict) or not isinstance(entry.get("subset"), str):
        raise ValueError('want {"subset": …, "annotations": […]}')
    split = parse_split(entry["subset"])
    annotations = entry.get("annotations") or []
    if not isinstance(annotations, list):
        raise ValueError("annotations is not a list")
    labels: dict[str, None] = {}
    segments = []
    for annotation in annotations:
        label = annotation.get("label") if isinstance(annotation, dict) else None
        if not isinstance(label, str) or not label:
            raise ValueError(f"an annotation without a label: {annotation!r}")
        check_utf8(label)
        labels[label] = None
        try:
            start_s, end_s = _span(annotation.get("segment"))
        except ValueError as error:
            issues.add("bad_segment", name, f"{label}: {error}; this segment is dropped")
            continue
        segments.append((start_s, end_s, label))
    return _Video(name, split, list(labels), sorted(segments))


def _span(segment: Any) -> tuple[float, float]:
    """(start_s, end_s). Raises ValueError with the reason."""
    try:
        start_s, end_s = (float(time_s) for time_s in segment)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"segment {segment!r} is not a pair of seconds") from None
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError(f"segment {segment!r} is not a pair of seconds")
    if start_s < 0:
        raise ValueError(f"segment {segment} starts before the video")
    if end_s <= start_s:
        raise ValueError(f"segment {segment} is {'empty' if end_s == start_s else 'inverted'}")
    return start_s, end_s
