"""Which windows of a video become clips, and the grid times of each: pure rational arithmetic, no video library.

The rule, said once. Grid time k of a window that starts at s is t = s + k / fps, and the frame taken is the one on
display at t: the last with pts <= t. A window is half-open and lives inside a span [begin, end):

    begin      end of the last frame's display, or of the labelled segment ┐
    |---- whole ----|---- whole ----|---- tail --···
    x   x   x   x   x   x   x   x   x   x   ·   ·     x real grid times   · grid times at or after the end

A window is whole when each of its T grid times lies before `end`; otherwise it is a tail window, and `tail` says what
becomes of it: left out (drop), its last frame repeated (pad), its frames shown over again (loop).

    stride   starts at begin + i * stride_s; the first tail window is the last, since it already holds all that is left
    uniform  num_clips starts spread evenly over [begin, end - T / fps], both ends included; one alone is centred
    random   num_clips distinct starts of whole microseconds over the same range, drawn from (seed, video_id) only
    segment  one window per labelled segment: it starts with the segment, or is centred on it where the segment is
             longer than T / fps. A segment shorter than the window is its own span: frames after it are never taken.
             Windows that come out equal are one clip with all their labels.

A span shorter than T / fps gives one window that starts at `begin`, whatever the kind.

A long wait for the next frame is real (a slideshow), but timestamps can also leap by days. So a window is left out when
all its grid times lie inside one gap, between a frame and the next, of more than MAX_GAP_S seconds.

Numbers of the config count as
the decimals that the user wrote (3.2 is 16/5), so there is no epsilon anywhere.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from schemas.video_row import VideoRow

if TYPE_CHECKING:
    from schemas.config import Clips

MICRO = 1_000_000
# A frame may stay for so long and still give clips of its own. Slides stay for minutes.
MAX_GAP_S = 600


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open window [start_s, end_s) of a video.

    end_s is start_s + T / fps for a whole window, and the end of its span for a tail window.
    """

    start_s: Fraction
    end_s: Fraction
    label_ids: tuple[int, ...]
    num_real: int  # grid times before the end of the span: 1 … T
    span_end_s: Fraction  # the end of the span: from here on nothing is this window's

    def clip_id(self, video_id: str) -> str:
        """`<video_id>@<start>-<end>` in whole microseconds; holds no dot when the video_id holds none."""
        return f"{video_id}@{microseconds(self.start_s)}-{microseconds(self.end_s)}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid times that others than clips take in the same windows: start_s + k / fps for k = 0 … num_times - 1.

    The last of them may be the window's end.
    """

    fps: float
    num_times: int


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch [start_s, end_s) of a video with its labels."""

    start_s: Fraction
    end_s: Fraction
    label_ids: tuple[int, ...]


def exact(number: float) -> Fraction:
    """The rational number that the shortest decimal text of `number` says: exact(3.2) == Fraction(16, 5)."""
    return Fraction(str(number))


def microseconds(time_s: Fraction) -> int:
    """Seconds to the nearest whole microsecond, halves to even."""
    return round(time_s * MICRO)


def on_grid(window: Window, grid: Grid) -> Window:
    """The same window with the number of `grid`'s times that are real: before the end of the span."""
    return replace(window, num_real=min(grid.num_times, _num_before(window.span_end_s, window.start_s, grid.fps)))


def grid_ticks(window: Window, spec: Clips | Grid, time_base: Fraction) -> list[int]:
    """For each grid time start_s + k / fps of a window's real frames the last tick at or before it.

    A frame is on display from its own tick on, so the one taken is the last whose ticks are at most these.
    """
    first, step = window.start_s / time_base, 1 / (exact(spec.fps) * time_base)
    # (first + k * step) // 1, in whole numbers: sums of Fractions would cost more than the rest of the sampling
    numerator, denominator = first.numerator * step.denominator, first.denominator * step.denominator
    stride = step.numerator * first.denominator
    return [(numerator + k * stride) // denominator for k in range(window.num_real)]


def filled(num_real: int, spec: Clips) -> list[int]:
    """For each of a clip's T frames the real frame that stands there: the tail policy, after `num_real` real ones."""
    if spec.tail == "loop":
        return [k % num_real for k in range(spec.frames)]
    return [min(k, num_real - 1) for k in range(spec.frames)]


def row_span(row: VideoRow, *, begin_s: Fraction, end_s: Fraction) -> Span | None:
    """What `row` uses of a video that shows [begin_s, end_s), or None when its [start_s, end_s) lies outside."""
    start = begin_s if row.start_s is None else max(begin_s, exact(row.start_s))
    end = end_s if row.end_s is None else min(end_s, exact(row.end_s))
    return Span(start, end, row.label_ids) if start < end else None


def is_part(row: VideoRow, spec: Clips) -> bool:
    """Whether the row names the part of the video that its windows lie in, rather than asking for all of it."""
    return row.start_s is not None or row.end_s is not None or (spec.windows == "segment" and bool(row.segments))


def until_s(row: VideoRow, spec: Clips) -> Fraction | None:
    """Where no window goes on, however long the video is; None where the video's end decides."""
    ends = [] if row.end_s is None else [exact(row.end_s)]
    if spec.windows == "segment" and row.segments:
        ends.append(max(exact(segment.end_s) for segment in row.segments))
    return min(ends, default=None)


class Windows:
    """The windows of `span` (from row_span) in order of start, each with its own microsecond id.

    Each iteration makes them anew, so that millions of them need no memory. With windows: segment, a segment that has
    nothing in common with `span` gives no window. `gaps` are half-open stretches in seconds, ascending and apart, in
    which no new frame is shown; a window that lies whole inside one is left out.
    """

    def __init__(
        self, spec: Clips, row: VideoRow, span: Span, *, gaps: Sequence[tuple[Fraction, Fraction]] = ()
    ) -> None:
        self.num_frozen = 0  # left out for a gap, by the last whole iteration
        self._spec, self._row, self._span = spec, row, span
        self._gaps, self._gap_starts = gaps, [start for start, _ in gaps]

    def __iter__(self) -> Iterator[Window]:
        spec, span = self._spec, self._span
        if spec.windows == "stride":
            return self._kept(self._stride())  # in order and apart as they are
        if spec.windows == "segment":
            windows = [_on_segment(spec, segment) for segment in _segments(self._row, span)]
        elif span.end_s - span.start_s <= _length(spec):
            windows = [_window(spec, span.start_s, span)]
        elif spec.windows == "uniform":
            windows = list(_uniform(spec, span))
        else:
            windows = list(_random(spec, span, self._row.video_id))
        frozen = ((window, int(self._gap_end(window) is not None)) for window in windows)
        return iter(_merged(self._kept(frozen)))

    def _kept(self, windows: Iterable[tuple[Window, int]]) -> Iterator[Window]:
        num_frozen = 0
        for window, num_in_gap in windows:
            num_frozen += num_in_gap
            is_cut = window.num_real < self._spec.frames
            if not num_in_gap and not (is_cut and self._spec.tail == "drop"):
                yield window
        self.num_frozen = num_frozen

    def _stride(self) -> Iterator[tuple[Window, int]]:
        """Each window with the number of windows, from it on, that lie in the gap around it: only its first is made."""
        spec, span = self._spec, self._span
        step = _length(spec) if spec.stride_s is None else exact(spec.stride_s)
        start = span.start_s
        while start < span.end_s:
            window = _window(spec, start, span)
            gap_end = self._gap_end(window)
            num_in_gap = 0 if gap_end is None else -int((_last_grid_s(window, spec) - gap_end) // step)
            is_cut = window.num_real < spec.frames
            yield window, min(num_in_gap, 1) if is_cut else num_in_gap
            if is_cut:
                return
            start += max(num_in_gap, 1) * step

    def _gap_end(self, window: Window) -> Fraction | None:
        """The end of the gap that holds all grid times of a window, or None."""
        at = bisect_right(self._gap_starts, window.start_s) - 1
        if at < 0:
            return None
        end_s = min(self._gaps[at][1], self._span.end_s)
        return end_s if _last_grid_s(window, self._spec) < end_s else None


def segments_outside(row: VideoRow, span: Span) -> int:
    """How many of the row's segments have nothing in common with `span`."""
    return len(row.segments) - len(_segments(row, span)) if row.segments else 0


def _length(spec: Clips) -> Fraction:
    return spec.frames / exact(spec.fps)


def _window(spec: Clips, start: Fraction, span: Span) -> Window:
    inside = _num_before(span.end_s, start, spec.fps)
    whole = inside >= spec.frames
    end = start + _length(spec) if whole else span.end_s
    return Window(start, end, span.label_ids, spec.frames if whole else inside, span.end_s)


def _num_before(end: Fraction, start: Fraction, fps: float) -> int:
    # grid times k with start + k / fps < end are k < (end - start) * fps, that is the ceiling of it
    return int(-((start - end) * exact(fps) // 1))


def _last_grid_s(window: Window, spec: Clips) -> Fraction:
    return window.start_s + (window.num_real - 1) / exact(spec.fps)


def _uniform(spec: Clips, span: Span) -> Iterator[Window]:
    room = span.end_s - span.start_s - _length(spec)
    num_clips = spec.num_clips or 1
    for i in range(num_clips):
        share = Fraction(i, num_clips - 1) if num_clips > 1 else Fraction(1, 2)
        yield _window(spec, span.start_s + share * room, span)


def _random(spec: Clips, span: Span, video_id: str) -> Iterator[Window]:
    num_starts = int((span.end_s - span.start_s - _length(spec)) * MICRO // 1) + 1
    starts: set[int] = set()
    draw = 0
    while len(starts) < min(spec.num_clips or 1, num_starts):
        # a hash, not a generator: the same in every version of every library
        digest = hashlib.sha256(f"{spec.seed}\n{video_id}\n{draw}".encode()).digest()
        starts.add(int.from_bytes(digest) * num_starts >> 256)
        draw += 1
    for start_us in sorted(starts):
        yield _window(spec, span.start_s + Fraction(start_us, MICRO), span)


def _segments(row: VideoRow, span: Span) -> list[Span]:
    if not row.segments:
        return [span]
    cut = (
        Span(max(exact(s.start_s), span.start_s), min(exact(s.end_s), span.end_s), (s.label_id,)) for s in row.segments
    )
    return [segment for segment in cut if segment.start_s < segment.end_s]


def _on_segment(spec: Clips, segment: Span) -> Window:
    spare = segment.end_s - segment.start_s - _length(spec)
    return _window(spec, segment.start_s + max(spare, Fraction(0)) / 2, segment)


def _merged(windows: Iterable[Window]) -> list[Window]:
    """In order of start, windows of equal id as one with all their labels."""
    merged: dict[tuple[int, int], Window] = {}
    for window in sorted(windows, key=lambda w: (w.start_s, w.end_s, w.label_ids)):
        key = (microseconds(window.start_s), microseconds(window.end_s))
        twin = merged.get(key, window)
        labels = tuple(sorted({*twin.label_ids, *window.label_ids})) if twin is not window else window.label_ids
        merged[key] = replace(twin, label_ids=labels)
    return list(merged.values())
