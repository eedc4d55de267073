"""ActivityNet json: labelled segments of whole videos, and what a detector says of them.

truth        {"database": {"<id>": {"subset": "training", "duration": 18.2,
                                    "annotations": [{"segment": [5.8, 16.2], "label": "Clean and jerk"}]}}}
predictions  {"version": "VERSION 1.3", "results": {"<id>": [{"label": …, "score": …, "segment": [5.8, 16.2]}]},
              "external_data": {}}

Other datasets come in the same form, so it is read generously: a label may be under "class" (beside a number under
"label"), a duration under "duration_second", and the videos may stand at the top, without "database".

| what is wrong | what is done |
|---|---|
| not JSON, not UTF-8, no videos | refused |
| a video named twice | the first is kept |
| a video without a subset, a label that is no text | the video is dropped |
| a segment that is not a pair of finite seconds | dropped; so is a prediction without a finite score |
| a prediction of a class that the truth does not know | refused, or dropped with `unknown="drop"` |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.annotations.columns import SegmentColumns, continue_names
from pipeline.annotations.report import Notes, Report
from pipeline.textlist import check_utf8, parse_split, read_bytes
from schemas.annotation import AMBIGUOUS, SegmentTable
from schemas.errors import UsageError

_PROPOSAL = "proposal"  # the label of what needs none


@dataclass(frozen=True, slots=True)
class Entry:
    """One video of a json. labels: the distinct ones, also of segments that were dropped. segments: (start_s, end_s,
    label) in the file's order, finite numbers and nothing more."""

    name: str
    subset: str
    duration_s: float | None
    labels: tuple[str, ...]
    segments: tuple[tuple[float, float, str], ...]


def read_truth(
    path: str, *, subset: str | None = None, report: Report | None = None, ambiguous: str | None = None
) -> SegmentTable:
    """The segments of a json as its benchmark reads them, in its order.

    subset: only these videos, by the file's own word or another for the same ("val", "validation"); None: all. The
    labels are the sorted names of the whole json, whatever the subset. ambiguous: the label that is AMBIGUOUS.
    Raises UsageError where it is not such a json, has no video or none of the subset.
    """
    entries = read_entries(path, report or Report())
    labels = sorted({label for entry in entries for label in entry.labels} - {ambiguous})
    kept = [entry for entry in entries if subset is None or same_subset(entry.subset, subset)]
    if not entries:
        raise UsageError(f"{path}: no video is in it")
    if not kept:
        subsets = ", ".join(sorted({entry.subset for entry in entries}))
        raise UsageError(f"{path}: no video is of the subset {subset!r}; it has {subsets}")
    columns = SegmentColumns([entry.name for entry in kept], labels, ambiguous=ambiguous)
    for entry in kept:
        for start_s, end_s, label in entry.segments:
            columns.add(entry.name, start_s, end_s, label)
    return columns.table(
        subset=[entry.subset for entry in kept],
        duration_s=[math.nan if entry.duration_s is None else entry.duration_s for entry in kept],
    )


def same_subset(one: str, other: str) -> bool:
    """Whether two names mean one subset: equal, or both train, both val or both test."""
    if one == other:
        return True
    try:
        return parse_split(one) == parse_split(other)
    except ValueError:
        return False


def read_entries(path: str, notes: Notes) -> list[Entry]:
    """The videos of a json, in its order. Raises UsageError where it is not an ActivityNet json."""
    repeated: list[str] = []
    root = load_json(path, repeated)
    database = root.get("database", root) if isinstance(root, dict) else None
    if not isinstance(database, dict) or (database is root and not _is_bare(database)):
        raise UsageError(f'{path}: not an ActivityNet json: it has no "database" with one entry per video')
    for name in repeated:
        if name in database:
            notes.add("duplicate_row", name, "the json names this video twice; the first entry is kept")
    entries = []
    for name, value in database.items():
        try:
            entries.append(_parse(name, value, notes))
        except ValueError as error:
            notes.add("malformed_row", name, str(error))
    return entries


def load_json(path: str, repeated: list[str]) -> Any:
    """A json file; of a key that an object has twice the first value, and the key goes to `repeated`. Raises UsageError
    where it is not JSON in UTF-8."""

    def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            value = {}
            for key, item in pairs:
                if key in value:
                    repeated.append(key)
                value.setdefault(key, item)
        return value

    try:
        return json.loads(read_bytes(path), object_pairs_hook=first_of_each)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UsageError(f"{path}: not valid JSON ({error})") from None


def _is_bare(root: Mapping[str, Any]) -> bool:
    return any(isinstance(value, dict) and "subset" in value for value in root.values())


def _parse(name: str, entry: Any, notes: Notes) -> Entry:
    """One entry of the database. Raises ValueError with the reason; a bad segment is dropped, with a note."""
    if not isinstance(entry, dict) or not isinstance(entry.get("subset"), str):
        raise ValueError('want {"subset": …, "annotations": […]}')
    annotations = entry.get("annotations") or []
    if not isinstance(annotations, list):
        raise ValueError("annotations is not a list")
    check_utf8(name)
    labels: dict[str, None] = {}
    segments = []
    for annotation in annotations:
        label = _label(annotation)
        labels[label] = None
        try:
            start_s, end_s = _span(annotation.get("segment"))
        except ValueError as error:
            notes.add("bad_segment", name, f"{label}: {error}; this segment is dropped")
            continue
        segments.append((start_s, end_s, label))
    return Entry(name, entry["subset"], _duration_s(entry), tuple(labels), tuple(segments))


def _label(annotation: Any) -> str:
    label = annotation.get("label") if isinstance(annotation, dict) else None
    if isinstance(label, int):
        label = annotation.get("class")  # the label is a number beside it
    if not isinstance(label, str) or not label:
        raise ValueError(f"an annotation without a label: {annotation!r}")
    check_utf8(label)
    return label


def _duration_s(entry: Mapping[str, Any]) -> float | None:
    value = entry.get("duration", entry.get("duration_second"))
    known = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if known else None


def _span(segment: Any) -> tuple[float, float]:
    """(start_s, end_s). Raises ValueError with the reason."""
    try:
        start_s, end_s = (float(time_s) for time_s in segment)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"segment {segment!r} is not a pair of seconds") from None
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError(f"segment {segment!r} is not a pair of seconds")
    return start_s, end_s


def read_predictions(
    path: str,
    *,
    truth: SegmentTable | None = None,
    unknown: Literal["refuse", "drop"] = "refuse",
    report: Report | None = None,
) -> SegmentTable:
    """The detections of a json, in its order, with scores.

    With `truth`, its labels are the labels and its videos the first videos, so that indices mean the same in both;
    videos that the truth does not know follow. Without, labels are sorted by name. Raises UsageError where it is not
    such a json, and for a class that the truth does not know unless `unknown="drop"`.
    """
    report = report or Report()
    results = _results(path, report)
    found = list(_detections(results, report))
    labels = truth.labels if truth is not None else sorted({label for *_, label, _ in found})
    videos = continue_names(truth.videos if truth is not None else (), results)
    columns = SegmentColumns(videos, labels, scored=True)
    for name, start_s, end_s, label, score in found:
        if label not in columns.label_ids:
            if unknown == "refuse":
                raise UsageError(f"{path}: {name} has a detection of {label!r}, a class that the truth does not know")
            report.add("unknown_class", name, f"{label!r} is not a class of the truth")
            continue
        columns.add(name, start_s, end_s, label, score)
    return columns.table()


def read_proposals(path: str, *, report: Report | None = None) -> SegmentTable:
    """The segments of a json of predictions without their classes, which proposals need not have: one label.

    Raises UsageError where it is not such a json.
    """
    report = report or Report()
    results = _results(path, report)
    columns = SegmentColumns(list(results), [_PROPOSAL], scored=True)
    for name, start_s, end_s, label, score in _detections(results, report, labelled=False):
        columns.add(name, start_s, end_s, label, score)
    return columns.table()


def _results(path: str, report: Report) -> dict[str, Any]:
    repeated: list[str] = []
    root = load_json(path, repeated)
    results = root.get("results") if isinstance(root, dict) else None
    if not isinstance(results, dict):
        raise UsageError(f'{path}: not ActivityNet predictions: it has no "results" with one list per video')
    for name in repeated:
        if name in results:
            report.add("duplicate_row", name, "the json names this video twice; the first list is kept")
    for name in [name for name in results if not _is_utf8(name)]:
        report.add("malformed_row", name, "this name is not UTF-8")
        del results[name]
    return results


def _is_utf8(name: str) -> bool:
    try:
        check_utf8(name)
    except ValueError:
        return False
    return True


def _detections(
    results: Mapping[str, Any], report: Report, *, labelled: bool = True
) -> Iterator[tuple[str, float, float, str, float]]:
    for name, detections in results.items():
        if not isinstance(detections, list):
            report.add("malformed_row", name, "its detections are not a list")
            continue
        for detection in detections:
            try:
                label = _label(detection) if labelled or not isinstance(detection, dict) else _PROPOSAL
            except ValueError as error:
                report.add("malformed_row", name, str(error))
                continue
            try:
                start_s, end_s = _span(detection.get("segment"))
            except ValueError as error:
                report.add("bad_segment", name, f"{label}: {error}")
                continue
            score = detection.get("score")
            if not isinstance(score, int | float) or not math.isfinite(score):
                report.add("bad_score", name, f"{label}: score {score!r} is not a finite number")
                continue
            yield name, start_s, end_s, label, float(score)


def write_predictions(table: SegmentTable, *, version: str = "VERSION 1.3", videos: Sequence[str] = ()) -> bytes:
    """Detections as ActivityNet json: each video's in the table's order, the videos in the order of `table.videos`.

    videos: write only these (default: all), in the table's order. The bytes depend on the table and nothing else, and
    `read_predictions` gives the same numbers back. Raises ValueError for a table without scores.
    """
    if table.score is None or (table.label == AMBIGUOUS).any():
        raise ValueError("want detections: with scores, and none of them Ambiguous")
    chosen = set(videos or table.videos)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in table.videos if name in chosen}
    rows = zip(table.video, table.label, table.score, table.start_s, table.end_s, strict=True)
    for video, label, score, start_s, end_s in rows:
        name = table.videos[video]
        if name in results:
            segment = [float(start_s), float(end_s)]
            results[name].append({"label": table.labels[label], "score": float(score), "segment": segment})
    root = {"version": version, "results": results, "external_data": {}}
    return (json.dumps(root, ensure_ascii=False) + "\n").encode()


def order_by_score(table: SegmentTable) -> SegmentTable:
    """The same detections, each video's by falling score, equal scores in their order."""
    assert table.score is not None, "detections have scores"
    return table.select(np.lexsort((-table.score, table.video)))
