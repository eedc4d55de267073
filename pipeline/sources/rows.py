"""Manifest rows while a source is read, by column: a million of them take a few tens of megabytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.ids import video_ids
from pipeline.sources.listing import Listing
from pipeline.textlist import Split
from schemas.manifest import MANIFEST_SCHEMA

Place = int | str  # a line number (0: the source has no lines), or "<list> line <number>"
_Video = int | tuple[int, int, int]  # a file, or (file, start_ms, end_ms)
_SPLITS: list[Split | None] = [None, "train", "val", "test"]


class Rows:
    """Collects rows over the files of a listing. The source sets `labels` (and `renumber`) when it has read all."""

    def __init__(self, listing: Listing, extra_fields: Sequence[pa.Field] = ()) -> None:
        self.listing = listing
        self.labels: list[str] = []  # names by label id
        self.renumber: np.ndarray | None = None  # int32: from the ids given to `add` to places in `labels`
        self.num_unused = 0  # rows of the list that this fold does not use
        self.extra_fields = list(extra_fields)
        self._extras: list[list[Any]] = [[] for _ in extra_fields]
        self._files = array("q")
        self._splits = array("b")
        self._label_ids = array("i")
        self._label_stops = array("i", [0])
        self._starts_s = array("d")
        self._ends_s = array("d")
        self._places: dict[_Video, Place] = {}  # where the row of each video stands
        self._known: set[int] = set()  # files that some row names, though no row stands for the whole of them

    def __len__(self) -> int:
        return len(self._files)

    def add(
        self,
        file: int,
        label_ids: Iterable[int] = (),
        *,
        split: Split | None = None,
        span_s: tuple[float, float] | None = None,
        line: int | None = None,
        origin: str = "",
        value: str = "",
        extras: Sequence[Any] = (),
    ) -> bool:
        """Add one row: a whole file, or the span [start, end) of it. A second row for the same is not added but an
        issue, and gives False.

        line, origin and value say for that issue where the row stands: its line, the list's name where a source has
        several lists, and its text.
        """
        earlier = self._claim(file, span_s, f"{origin} line {line}" if origin else line or 0)
        if earlier is not None:
            self._report_duplicate(earlier, line=line, origin=origin, value=value)
            return False
        self._files.append(file)
        self._splits.append(_SPLITS.index(split))
        self._label_ids.extend(label_ids)
        self._label_stops.append(len(self._label_ids))
        start_s, end_s = span_s or (np.nan, np.nan)
        self._starts_s.append(start_s)
        self._ends_s.append(end_s)
        for column, extra in zip(self._extras, extras, strict=True):
            column.append(extra)
        return True

    def _claim(self, file: int, span_s: tuple[float, float] | None, place: Place) -> Place | None:
        """None where the row is the first for its video, else the place of the first."""
        video: _Video = file
        if span_s is not None:
            video = (file, round(span_s[0] * 1000), round(span_s[1] * 1000))  # as exact as a video_id
            self._known.add(file)
        if video in self._places:
            return self._places[video]
        self._places[video] = place
        return None

    def _report_duplicate(self, earlier: Place, *, line: int | None, origin: str, value: str) -> None:
        where = earlier if isinstance(earlier, str) else f"line {earlier}" if earlier else "an earlier row"
        detail = f"{where} has the same video; that one is kept"
        self.listing.issues.add("duplicate_row", value, f"{origin}: {detail}" if origin else detail, line=line)

    def set_aside(self, file: int | None) -> None:
        """Count a row that this fold does not use; its file is not one without a row."""
        self.num_unused += 1
        if file is not None:
            self._known.add(file)

    def report_files_without_row(self) -> None:
        """An issue for each listed file that no row has named."""
        for index, relative in enumerate(self.listing.relative):
            if index not in self._places and index not in self._known:
                self.listing.issues.add("file_without_row", relative, "no row of the list names this video")

    def table(self) -> pa.Table:
        """The manifest: MANIFEST_SCHEMA plus the extra columns, sorted by video_id."""
        indices = np.frombuffer(self._files, np.int64)
        starts_s, ends_s = np.frombuffer(self._starts_s), np.frombuffer(self._ends_s)
        ids = video_ids(self.listing.relative_paths(indices), starts_s, ends_s)
        order = pc.sort_indices(ids)  # by bytes
        files = self.listing.columns(indices[order])
        split_codes = pa.array(np.frombuffer(self._splits, np.int8)).take(order)
        labels, label_ids = self._label_columns(order)
        columns = [
            ids.take(order),
            files["uri"],
            pa.array(_SPLITS, pa.string()).take(split_codes),
            labels,
            label_ids,
            pa.array(starts_s, from_pandas=True).take(order),  # NaN -> null
            pa.array(ends_s, from_pandas=True).take(order),
            files["bytes"],
            files["etag"],
        ]
        for field, extra in zip(self.extra_fields, self._extras, strict=True):
            columns.append(pa.array(extra, field.type).take(order))
        schema = pa.schema([*MANIFEST_SCHEMA, *self.extra_fields])
        return pa.Table.from_arrays(columns, schema=schema)

    def _label_columns(self, order: pa.Array) -> tuple[pa.Array, pa.Array]:
        ids = np.frombuffer(self._label_ids, np.int32)
        if self.renumber is not None:
            ids = self.renumber[ids]
        stops = pa.array(np.frombuffer(self._label_stops, np.int32))
        label_ids = pa.ListArray.from_arrays(stops, pa.array(ids)).take(order)
        names = pa.array(self.labels, pa.string()).take(label_ids.values)
        return pa.ListArray.from_arrays(label_ids.offsets, names), label_ids
