"""The json files beside exported features: what was labelled where, in seconds from each video's first window.

OpenTAD and ActionFormer   annotations.json  {"database": {id: {"subset", "duration", "frame", "fps", "annotations"}}}
mmaction2                  train.json …      {id: {"duration_second", "duration_frame", "feature_frame", "annotations"}}
both                       "annotations": [{"segment": [start_s, end_s], "label": name, "label_id": number}]

Labels that have a segment are numbered in the order of their ids, without gaps, as ActionFormer takes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pipeline.export.feature_files import Target, csv_key
from pipeline.export.grid import Clock
from pipeline.export.lists import UNSPLIT
from pipeline.store import Store
from pipeline.units import read_labels, read_manifest
from schemas.video_row import VideoRow

SUBSETS = {"train": "training", "val": "validation", "test": "testing", None: UNSPLIT}
# The localizers of mmaction2 round the frames down to a multiple of their feature_extraction_interval, 16 in its
# configs: counted in sixteenths, none of ours is rounded away.
MMACTION2_PARTS = 16


@dataclass(frozen=True, slots=True)
class SegmentLabels:
    """The labels of a manifest's segments."""

    names: tuple[str, ...]  # by the number that an export gives them
    numbers: Mapping[int, int]  # label id -> number

    @classmethod
    def of(cls, store: Store) -> SegmentLabels:
        """Of all videos of the manifest; none where its source has no segments."""
        column = "segment_label_ids"
        if column not in read_manifest(store).schema.names:
            return cls((), {})
        found = read_manifest(store, columns=[column])[column].combine_chunks().flatten().unique().to_pylist()
        labels = read_labels(store)
        return cls(tuple(labels[i] for i in sorted(found)), {label_id: i for i, label_id in enumerate(sorted(found))})

    def annotations(self, row: VideoRow, *, start_s: float) -> list[dict[str, Any]]:
        """The segments of a video, whose second `start_s` is the readers' 0."""
        return [
            {
                "segment": [round(segment.start_s - start_s, 6), round(segment.end_s - start_s, 6)],
                "label": self.names[self.numbers[segment.label_id]],
                "label_id": self.numbers[segment.label_id],
            }
            for segment in row.segments
        ]


class JsonObjects:
    """Files that each hold one json object, with an entry a line, written as the entries come.

    They appear when they are published. `inside` is the key that the entries are under, beside `beside`.
    """

    def __init__(self, store: Store, *, inside: str | None = None, beside: Mapping[str, Any] | None = None) -> None:
        self._store, self._inside = store, inside
        head = json.dumps(dict(beside or {}), ensure_ascii=False, sort_keys=True)[:-1]
        self._head = f"{head}{', ' if beside else ''}{json.dumps(inside)}: {{" if inside else "{"
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, key: str, value: Mapping[str, Any]) -> None:
        if name not in self._files:
            self.open(name)
        start = ",\n" if self.counts[name] else "\n"
        line = f"{start}{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False, sort_keys=True)}"
        self._files[name].file.write(line.encode())
        self.counts[name] += 1

    def open(self, name: str) -> None:
        """Begin a file, which then appears even without an entry."""
        self._files[name] = self._stack.enter_context(self._store.stage(name))
        self._files[name].file.write(self._head.encode())
        self.counts[name] = 0

    def publish(self) -> None:
        for file in self._files.values():
            file.file.write(b"\n}}\n" if self._inside else b"\n}\n")
            file.publish()

    def __enter__(self) -> JsonObjects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class AnnotationFiles:
    """What a target takes beside the features; npy takes nothing. The files appear when they are published."""

    def __init__(self, store: Store, target: Target, labels: SegmentLabels, clock: Clock) -> None:
        self._store, self._target, self._labels, self._clock = store, target, labels, clock
        in_one = target in ("opentad", "actionformer")
        self._json = JsonObjects(store, inside="database" if in_one else None)
        if in_one:
            self._json.open("annotations.json")
        self.num_segments = 0
        self.labels_used: set[int] = set()

    def add(self, row: VideoRow, *, start_s: float, num_frames: int) -> None:
        """A video of so many frames, whose second `start_s` is the readers' 0."""
        annotations = self._labels.annotations(row, start_s=start_s)
        self.num_segments += len(annotations)
        self.labels_used.update(annotation["label_id"] for annotation in annotations)
        if self._target == "mmaction2":
            entry = mmaction2_entry(annotations, clock=self._clock, num_frames=num_frames)
            self._json.add(f"{row.split or UNSPLIT}.json", csv_key(row.video_id), entry)
        elif self._target != "npy":
            entry = database_entry(row, annotations, clock=self._clock, num_frames=num_frames)
            self._json.add("annotations.json", row.video_id, entry)

    def publish(self) -> None:
        self._json.publish()
        if self._target in ("opentad", "actionformer"):
            self._store.put("category_idx.txt", "".join(f"{name}\n" for name in self._labels.names).encode())

    def __enter__(self) -> AnnotationFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._json.__exit__(kind, error, trace)


def database_entry(row: VideoRow, annotations: Sequence[Any], *, clock: Clock, num_frames: int) -> dict[str, Any]:
    """As OpenTAD and ActionFormer read a video. frame / duration is the clock's fps."""
    return {
        "subset": SUBSETS[row.split],
        "duration": clock.duration_s(num_frames),
        "frame": num_frames,
        "fps": float(clock.fps),
        "annotations": list(annotations),
    }


def mmaction2_entry(annotations: Sequence[Any], *, clock: Clock, num_frames: int) -> dict[str, Any]:
    """As mmaction2's ActivityNetDataset reads a video whose rows span all of it."""
    parts = MMACTION2_PARTS * num_frames
    fps = float(clock.fps * MMACTION2_PARTS)
    return {
        "duration_second": clock.duration_s(num_frames),
        "duration_frame": parts,
        "feature_frame": parts,
        "fps": fps,
        "rfps": fps,
        "annotations": list(annotations),
    }
