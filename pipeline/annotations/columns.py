"""Building tables a row at a time."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.annotations.report import Report
from schemas.annotation import AMBIGUOUS, BoxTable, SegmentTable

_AMBIGUOUS = ""  # no label has this name


def continue_names(first: Iterable[str], more: Iterable[str]) -> list[str]:
    """`first`, then those of `more` that are not in it, each once."""
    return list(dict.fromkeys([*first, *more]))


class SegmentColumns:
    """Collects segments. ambiguous: the name of the label that is AMBIGUOUS; scored: whether they are predictions."""

    def __init__(
        self, videos: Sequence[str], labels: Sequence[str], *, ambiguous: str | None = None, scored: bool = False
    ) -> None:
        self.videos, self.labels, self._scored = tuple(videos), tuple(labels), scored
        self.video_ids = {name: index for index, name in enumerate(self.videos)}
        self.label_ids = {name: index for index, name in enumerate(self.labels)}
        if ambiguous is not None:
            self.label_ids[ambiguous] = AMBIGUOUS
        self._ints = array("q")  # video, label, video, label …
        self._numbers = array("d")  # start_s, end_s, score …

    def add(self, video: str, start_s: float, end_s: float, label: str, score: float = 0.0) -> None:
        """Add a segment of a known video and label."""
        self._ints.extend((self.video_ids[video], self.label_ids[label]))
        self._numbers.extend((start_s, end_s, score))

    def table(
        self, *, subset: Sequence[str | None] | None = None, duration_s: Sequence[float] | None = None
    ) -> SegmentTable:
        ints = np.frombuffer(self._ints, np.int64).reshape(-1, 2)
        numbers = np.frombuffer(self._numbers, np.float64).reshape(-1, 3)
        return SegmentTable(
            video=ints[:, 0].copy(),
            label=ints[:, 1].copy(),
            start_s=numbers[:, 0].copy(),
            end_s=numbers[:, 1].copy(),
            score=numbers[:, 2].copy() if self._scored else None,
            videos=self.videos,
            labels=self.labels,
            subset=None if subset is None else tuple(subset),
            duration_s=None if duration_s is None else np.array(duration_s, np.float64),
        )


def merge_segments(tables: Sequence[SegmentTable], report: Report, *, sort_labels: bool = True) -> SegmentTable:
    """The truth of several files as one table, in their order; a video that several have is as the first has it, and
    noted. Labels are those of all, sorted by name or as they come."""
    if len(tables) == 1:
        return tables[0]
    labels = continue_names((), (name for table in tables for name in table.labels))
    videos = continue_names((), (name for table in tables for name in table.videos))
    columns = SegmentColumns(videos, sorted(labels) if sort_labels else labels, ambiguous=_AMBIGUOUS)
    known: dict[str, tuple[SegmentTable, str | None, float]] = {}
    for table in tables:
        subset = table.subset or [None] * len(table.videos)
        duration_s = [math.nan] * len(table.videos) if table.duration_s is None else table.duration_s.tolist()
        for name, *facts in zip(table.videos, subset, duration_s, strict=True):
            if known.setdefault(name, (table, *facts))[0] is not table:
                report.add("duplicate_row", name, "two files have this video; the first one's segments are kept")
        names = [*table.labels, _AMBIGUOUS]  # AMBIGUOUS is -1, the last
        for video, start_s, end_s, label in zip(table.video, table.start_s, table.end_s, table.label, strict=True):
            if known[table.videos[video]][0] is table:
                columns.add(table.videos[video], start_s, end_s, names[label])
    return columns.table(
        subset=[known[name][1] for name in columns.videos], duration_s=[known[name][2] for name in columns.videos]
    )


class BoxColumns:
    """Collects boxes; videos are numbered as they come, after those that are given."""

    def __init__(self, videos: Sequence[str], labels: Sequence[str], *, scored: bool = False) -> None:
        self.labels, self._scored = tuple(labels), scored
        self.video_ids = {name: index for index, name in enumerate(videos)}
        self._ints = array("q")  # video, label, entity …
        self._numbers = array("d")  # second, x1, y1, x2, y2, score …

    def add(
        self, video: str, second: float, box: Sequence[float], label_id: int, *, entity: int = -1, score: float = 0.0
    ) -> None:
        """Add a box x1 y1 x2 y2 of a label, by its place in `labels`."""
        index = self.video_ids.setdefault(video, len(self.video_ids))
        self._ints.extend((index, label_id, entity))
        self._numbers.extend((second, *box, score))

    def table(self) -> BoxTable:
        ints = np.frombuffer(self._ints, np.int64).reshape(-1, 3)
        numbers = np.frombuffer(self._numbers, np.float64).reshape(-1, 6)
        return BoxTable(
            video=ints[:, 0].copy(),
            label=ints[:, 1].copy(),
            entity=ints[:, 2].copy(),
            second=numbers[:, 0].copy(),
            box=numbers[:, 1:5].copy(),
            score=numbers[:, 5].copy() if self._scored else None,
            videos=tuple(self.video_ids),
            labels=self.labels,
        )
