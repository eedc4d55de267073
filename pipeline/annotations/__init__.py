"""Annotations and predictions: one file per format, each to the value types of `schemas.annotation` and back.

The readers give what a file says, for metrics that count as the benchmark's own code does. `open_annotations` gives
what can be trained on: see `tidy`. A segment that ends after its video is cut by whoever knows where the video ends
(`tidy_segments` with `end_s`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow.fs as pafs

from pipeline.annotations import activitynet, ava, dense_labels, thumos14, tube_json, ucf101_24
from pipeline.annotations.columns import SegmentColumns, merge_segments
from pipeline.annotations.join import Joined, join_videos, public_names
from pipeline.annotations.report import Report
from pipeline.annotations.tidy import tidy_boxes, tidy_segments, tidy_tubes
from pipeline.store import resolve
from pipeline.textlist import join, list_names, read_bytes
from schemas.annotation import BoxTable, SegmentTable, TubeSet
from schemas.annotation_files import (
    ActivityNetAnnotations,
    Annotations,
    AVAAnnotations,
    DenseLabelsAnnotations,
    ManifestAnnotations,
    Thumos14Annotations,
    TubesAnnotations,
)
from schemas.video_row import VideoRow


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Annotations as they can be trained on, on the files' own clocks. report: what was dropped, and why.

    Of AVA: frames: those annotated, with a box or without; excluded: those that the dataset leaves out, on which
    `truth` has no box; actions: the action list, which a csv of predictions needs.
    """

    truth: SegmentTable | BoxTable | TubeSet
    report: Report
    frames: ava.Frames = field(default=frozenset())
    excluded: ava.Frames = field(default=frozenset())
    actions: ava.ActionList | None = None


def open_annotations(settings: Annotations, *, rows: Sequence[VideoRow] = (), labels: Sequence[str] = ()) -> Opened:
    """Read the annotations of a config section and tidy them.

    rows, labels: the manifest's, by label id; `kind: manifest` takes its segments from them. Raises UsageError where a
    file can't be read or is not what it should be.
    """
    report = Report()
    if isinstance(settings, AVAAnnotations):
        return _open_ava(settings, report)
    if isinstance(settings, TubesAnnotations):
        read = ucf101_24.read_truth if settings.format == "ucf101_24" else tube_json.read_truth
        return Opened(tidy_tubes(read(settings.path, report=report), report), report)
    table = _segments(settings, rows, labels, report)
    return Opened(tidy_segments(table, report), report)


def _open_ava(settings: AVAAnnotations, report: Report) -> Opened:
    actions = ava.read_actions(settings.labels)
    excluded = ava.read_exclusions(settings.exclude, report=report)
    boxes = ava.read_labels(settings.csv, actions=actions, excluded=excluded, report=report)
    boxes = tidy_boxes(boxes, report)
    frames = ava.read_frames(settings.csv) - excluded
    return Opened(
        replace(boxes, second=boxes.second - settings.start_s),
        report,
        frames=_earlier(frames, settings.start_s),
        excluded=_earlier(excluded, settings.start_s),
        actions=actions,
    )


def _earlier(frames: ava.Frames, start_s: float) -> ava.Frames:
    return frozenset((video, second - start_s) for video, second in frames)


def _segments(
    settings: ManifestAnnotations | ActivityNetAnnotations | Thumos14Annotations | DenseLabelsAnnotations,
    rows: Sequence[VideoRow],
    labels: Sequence[str],
    report: Report,
) -> SegmentTable:
    match settings:
        case ManifestAnnotations():
            return manifest_segments(rows, labels)
        case ActivityNetAnnotations():
            return activitynet.read_truth(settings.json_path, report=report)
        case Thumos14Annotations():
            tables = [thumos14.read_truth(path, report=report) for path in settings.path]
            return merge_segments(tables, report)
        case DenseLabelsAnnotations(dataset="multithumos"):
            return merge_segments(
                [dense_labels.read_multithumos(path, report=report) for path in settings.path], report
            )
        case DenseLabelsAnnotations():
            classes = dense_labels.read_classes(settings.classes) if settings.classes else None
            tables = [dense_labels.read_charades(path, classes=classes, report=report) for path in settings.path]
            return merge_segments(tables, report, sort_labels=classes is None)


def manifest_segments(rows: Sequence[VideoRow], labels: Sequence[str]) -> SegmentTable:
    """The segments of a manifest's rows, which go by their `public_names`; labels by label id."""
    names = public_names(rows)
    columns = SegmentColumns(names, labels)
    for name, row in zip(names, rows, strict=True):
        for segment in row.segments:
            columns.add(name, segment.start_s, segment.end_s, labels[segment.label_id])
    return columns.table(subset=[row.split for row in rows], duration_s=[np.nan] * len(rows))


def files_of(settings: Annotations) -> list[str]:
    """The files that annotations are read from, in a fixed order; none for `kind: manifest`. Raises UsageError where a
    folder can't be listed."""
    match settings:
        case ManifestAnnotations():
            return []
        case ActivityNetAnnotations():
            return [settings.json_path]
        case AVAAnnotations():
            return [*settings.csv, settings.labels, *settings.exclude]
        case TubesAnnotations(format="ucf101_24"):
            return ucf101_24.files_of(settings.path)
        case TubesAnnotations():
            return tube_json.files_of(settings.path)
        case _:
            files = [file for path in settings.path for file in _text_files(path)]
            classes = getattr(settings, "classes", None)
            return [*files, classes] if classes else files


def _text_files(path: str) -> list[str]:
    filesystem, inner = resolve(path)
    if filesystem.get_file_info(inner).type != pafs.FileType.Directory:
        return [path]
    return [join(path, name) for name in list_names(path) if name.endswith(".txt")]


def annotations_sha256(settings: Annotations) -> str:
    """The identity of the annotations' content: another for any other byte of their files or name of a file in a
    folder, the same wherever they lie. Raises UsageError where one can't be read."""
    digest = hashlib.sha256(settings.kind.encode())
    for path in files_of(settings):
        name = path.partition("?")[0].rpartition("/")[2]
        digest.update(f"\0{name}\0{hashlib.sha256(read_bytes(path)).hexdigest()}".encode())
    return digest.hexdigest()


__all__ = [
    "Joined",
    "Opened",
    "Report",
    "annotations_sha256",
    "files_of",
    "join_videos",
    "manifest_segments",
    "open_annotations",
    "public_names",
    "tidy_boxes",
    "tidy_segments",
    "tidy_tubes",
]
