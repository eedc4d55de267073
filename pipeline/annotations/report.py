"""What the readers of annotations could not use as it stands: counted by kind, the first few of each kind named."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Protocol

from pipeline.secrets import redacted
from schemas.errors import UsageError

EntryProblem = Literal["duplicate_row", "malformed_row", "bad_segment"]  # what an index of videos has a word for, too
Problem = Literal[
    EntryProblem,
    "bad_score",  # a prediction without a finite score
    "no_score",  # a prediction that counts with the score 1
    "empty_segment",  # it ends where it begins
    "inverted_segment",
    "segment_before_start",  # it begins before the video
    "segment_after_end",  # it begins after the video
    "segment_clipped",  # it ends after the video
    "segment_outside_features",  # no window of features shows any of it
    "segment_beyond_features",  # windows of features show a part of it
    "bad_box",  # not four numbers
    "degenerate_box",  # without a width or a height
    "box_outside",
    "box_clipped",
    "excluded_frame",  # a box on a frame that the dataset leaves out
    "bad_tube",  # wholly or in part
    "unknown_class",
    "unreadable_file",  # one of a folder's
]

KEPT: frozenset[str] = frozenset(
    {"no_score", "segment_clipped", "segment_beyond_features", "box_clipped"}
)  # these are used, though changed
NUM_NAMED = 3
_MAX_VALUE = 120  # characters of a malformed row that are worth showing


class Notes(Protocol):
    """Where a reader of entries notes its problems: a Report, or an index's own list of issues."""

    def add(self, kind: EntryProblem, value: str, detail: str, *, line: int | None = None) -> None: ...


class Report:
    """Counts problems. What has one is dropped, but for the kinds in KEPT."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, kind: Problem, value: str, detail: str, *, line: int | None = None) -> None:
        """Note one problem: of which video or file, in words, and at which line from 1."""
        self.counts[kind] += 1
        named = self._first.setdefault(kind, [])
        if len(named) < NUM_NAMED:
            value, detail = redacted(value), redacted(detail)
            where = f"{value[:_MAX_VALUE]} line {line}" if line else value[:_MAX_VALUE]
            named.append(f"{where}: {detail}".encode("utf-8", "backslashreplace").decode())

    @property
    def num_dropped(self) -> int:
        """How many rows, segments, boxes or tubes were dropped."""
        return sum(count for kind, count in self.counts.items() if kind not in KEPT)

    def require_some(self, num_left: int, path: str, what: str) -> None:
        """Raises UsageError where a file has entries and none can be used: it is not the file that was meant."""
        if num_left or not self.num_dropped:
            return
        kind = next(kind for kind in self.counts if kind not in KEPT)
        why = f"{kind.replace('_', ' ')}: {self._first[kind][0].removeprefix(path).lstrip()}"
        raise UsageError(f"{path}: none of its {self.num_dropped} {what} can be used; {why}")

    def lines(self) -> list[str]:
        """One line of English for each kind of problem, by name of kind."""
        lines = []
        for kind in sorted(self.counts):
            count, first = self.counts[kind], "; ".join(self._first[kind])
            more = f"; and {count - NUM_NAMED} more" if count > NUM_NAMED else ""
            done = "kept" if kind in KEPT else "dropped"
            lines.append(f"{count} × {kind.replace('_', ' ')} ({done}): {first}{more}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same as plain values: {kind: {"count": …, "first": […]}}."""
        return {kind: {"count": self.counts[kind], "first": self._first[kind]} for kind in sorted(self.counts)}
