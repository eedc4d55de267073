"""Clips of a video: the frame on display at each grid time, converted once, in one pass and bounded memory.

1. `timeline.scan` reads the packets and decodes four frames: true extent, and whether packets can be trusted. Where the
   row asks for a part of the video, `part.open_part` reads no more than this part's, if the container's index allows.
2. `sample.Windows` places the windows on that extent.
3. One decoding pass hands frames to `_Clipper`, which keeps one decoded frame and the converted frames of the windows
   that are open. Where packets can be trusted, `feed.needed_frames` leaves out what nobody needs; at the first surprise
   (and where they can't be trusted) `feed.AllFrames` decodes everything from the start and the clipper takes up the
   grid times that it still lacks. Windows stay where the scan placed them.

A grid time inside a damaged stretch takes the last good frame before it. Where the damage reaches to the end of the
file, the last good frame ends the video: later grid times are a matter for the tail policy, and windows without one
real frame (with tail: drop, without all of them) are left out. Damaged frames are never used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from pipeline.video.errors import VideoError
from pipeline.video.feed import AllFrames, SurpriseError, Work, needed_frames
from pipeline.video.part import DoubtError, Part, open_part
from pipeline.video.probe import no_frames
from pipeline.video.sample import (
    MAX_GAP_S,
    Grid,
    Span,
    Window,
    Windows,
    filled,
    grid_ticks,
    is_part,
    on_grid,
    row_span,
    segments_outside,
    until_s,
)
from pipeline.video.timeline import Timeline, scan
from schemas.video_row import VideoRow

if TYPE_CHECKING:
    from schemas.config import Clips

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SampledClip(Generic[T]):
    """One clip of T frames; on another grid, of the real ones only."""

    clip_id: str
    start_s: float  # half-open [start_s, end_s) on the source's clock
    end_s: float
    label_ids: tuple[int, ...]
    frames: list[T]  # what `convert` made of each frame; padding and loops hold the same objects again
    frame_pts_s: list[float]  # source timestamp of each of `frames`: pts * time_base
    num_real_frames: int  # frames before padding or looping begins


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a video, once its clips are all out."""

    num_frames_decoded: int  # that came out of the decoder
    num_frames_used: int  # distinct frames that were converted
    partial: bool = False  # something of the video was lost
    # "truncated", "clock_jumps", "clock_runs_back", "decode_errors", "segments_outside"; "" when nothing was lost
    reason: str = ""
    message: str = ""  # one sentence


def sample_video(
    source: str | BinaryIO,
    row: VideoRow,
    spec: Clips,
    *,
    convert: Callable[[VideoFrame], T],
    progress: Callable[[int], None],
    grid: Grid | None = None,
) -> Generator[SampledClip[T], None, Decoded]:
    """Yield every clip of `row` in order of start, and return what became of the video.

    `source` is a local path or a seekable binary file; it is read twice, or in part where the row asks for a
    part (see `pipeline.video.part`). `convert` sees each needed frame once (twice
    at most where damage makes the decoder start again), and must not keep the frame. `progress` gets a count that grows
    with every packet read and every frame decoded, so a count that stands still means a decoder that does too. A video
    may give no clip at all under tail: drop. With `grid` the windows are those of the clips, but the frames are those
    on display at the grid's times, without what the tail policy adds. Where a video is damaged, the caller knows which
    of the windows are clips: that may hang on frames that the grid does not touch, so with `grid` tail: drop leaves out
    none for damage. Raises VideoError where nothing can be used.
    """
    work = Work(progress)
    place = partial(_place, row, spec, convert, grid)
    timeline, clipper = _look(source, place, row, spec, work)
    feed = _Feed(source, timeline, work)
    if not clipper.is_done:
        yield from feed.clips(clipper)
    losses = list(_losses(feed.timeline, feed.everything, segments_outside(row, clipper.span), clipper))
    reason, message = losses[0] if losses else ("", "")
    return Decoded(work.num_frames, clipper.num_converted, bool(losses), reason, message)


def _look(
    source: str | BinaryIO, place: Callable[[Timeline | Part], _Clipper[T]], row: VideoRow, spec: Clips, work: Work
) -> tuple[Timeline, _Clipper[T]]:
    """The packets that matter, and the windows placed among them."""
    if is_part(row, spec):
        try:
            with open_part(source, until_s=until_s(row, spec), read=work.read) as part:
                clipper = place(part)
                return part.timeline(clipper.ranges()), clipper
        except (DoubtError, VideoError):
            pass  # the whole file has the answer, or says better what is wrong
    timeline = scan(source, progress=work.scanned)
    return timeline, place(timeline)


def _place(
    row: VideoRow, spec: Clips, convert: Callable[[VideoFrame], T], grid: Grid | None, timeline: Timeline | Part
) -> _Clipper[T]:
    span = row_span(row, begin_s=timeline.begin_s, end_s=timeline.end_s)
    if span is None:
        asked = f"[{row.start_s}, {'end' if row.end_s is None else row.end_s}) s"
        have = _clock(timeline.begin_s, timeline.end_s)
        raise VideoError("outside", f"the row asks for {asked}, but the video shows {have}; correct the row")
    windows = Windows(spec, row, span, gaps=timeline.gaps_s)
    clipper = _Clipper(windows, span, row.video_id, spec, timeline.time_base, convert, grid)
    if clipper.is_done and row.segments and segments_outside(row, span) == len(row.segments):
        raise VideoError("outside", f"none of its segments lies within {_clock(span.start_s, span.end_s)} of the video")
    return clipper


class _Feed:
    """Hands a clipper its frames: the needed ones, or where these surprise, or can't be told, all of the video."""

    def __init__(self, source: str | BinaryIO, timeline: Timeline, work: Work) -> None:
        self.timeline = timeline
        self.everything = AllFrames(source, timeline, work)
        self._source, self._work = source, work

    def clips(self, clipper: _Clipper[T]) -> Iterator[SampledClip[T]]:
        timeline = self.timeline
        if timeline.can_skip:
            try:
                for ticks, frame in needed_frames(self._source, timeline, _needed(timeline, clipper), self._work):
                    yield from clipper.show(ticks, frame)
                yield from clipper.finish(end=timeline.end)
                return
            except SurpriseError:
                clipper.start_over()
        if timeline.is_part:  # what is damaged has to be said of the whole file
            self.timeline = scan(self._source, progress=self._work.scanned)
            self.everything = AllFrames(self._source, self.timeline, self._work)
        for ticks, frame in self.everything:
            yield from clipper.show(ticks, frame)
            if clipper.is_done:
                return
        if self.everything.end is None:
            raise no_frames()
        yield from clipper.finish(end=self.everything.end)


def _clock(start_s: Fraction, end_s: Fraction) -> str:
    return f"[{float(start_s):.3f}, {float(end_s):.3f}) s"


def _needed(timeline: Timeline, clipper: _Clipper[T]) -> npt.NDArray[np.int64]:
    """Times, ascending, of the frames on display at any grid time."""
    shown = np.sort(timeline.ticks[timeline.is_shown])
    is_needed = np.zeros(len(shown), bool)
    for window in clipper.windows:
        at = np.searchsorted(shown, clipper.bounds(window), side="right") - 1
        is_needed[np.maximum(at, 0)] = True
    return shown[is_needed]


def _losses(
    timeline: Timeline, everything: AllFrames, num_segments_outside: int, clipper: _Clipper[T]
) -> Iterator[tuple[str, str]]:
    ends_s, missing = float(timeline.end_s), ""
    # a frame's worth of doubt: containers without timestamps say only so exactly when the last frame ends
    if clipper.num_lost and clipper.end_s < timeline.end_s - timeline.interval * timeline.time_base:
        ends_s, missing = float(clipper.end_s), f", and {clipper.num_lost} clips at the end are short or missing"
    if timeline.is_cut:
        yield "truncated", f"the file ends early: its frames stop at {ends_s:.3f} s{missing}; fetch it again"
    num_late = max(timeline.num_late, everything.num_late)
    num_frozen = clipper.windows.num_frozen
    if num_frozen or timeline.strays:
        lost = [f"{num_frozen} clips in which no frame comes for more than {MAX_GAP_S} s"] if num_frozen else []
        lost += [f"{len(timeline.strays)} frames from which the clock comes back"] if timeline.strays else []
        yield "clock_jumps", f"timestamps jump, and {' and '.join(lost)} are left out; re-encode it if they are wrong"
    if num_late:
        what = f"timestamps run back, and {num_late} frames that lie before ones already shown are left out"
        yield "clock_runs_back", f"{what}; split the file where its clock starts again, or re-encode it with ffmpeg"
    num_errors = everything.num_errors + timeline.num_damaged
    if num_errors:
        what = f"{num_errors} packets or frames are damaged, and the last good frame stands in for each"
        yield "decode_errors", f"{what}{missing}; fetch the file again"
    elif missing:
        yield "decode_errors", f"the decoder gives no frame after {ends_s:.3f} s{missing}; fetch the file again"
    if num_segments_outside:
        yield "segments_outside", f"{num_segments_outside} of the row's segments lie outside the video"


# ---------------------------------------------------------------- frames to clips


@dataclass(slots=True)
class _Shown(Generic[T]):
    """The frame on display, converted when the first grid time asks for it."""

    ticks: int
    frame: VideoFrame
    value: list[T] = field(default_factory=list)  # empty or one


@dataclass(slots=True)
class _Open(Generic[T]):
    """A window that has begun: `bounds` says which frame each grid time takes, the last at or before it."""

    window: Window
    bounds: list[int]  # ticks
    ticks: list[int] = field(default_factory=list)
    frames: list[T] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.frames) == len(self.bounds)


class _Clipper(Generic[T]):
    """Turns frames in order of display into clips in order of start."""

    def __init__(
        self,
        windows: Windows,
        span: Span,
        video_id: str,
        spec: Clips,
        time_base: Fraction,
        convert: Callable[[VideoFrame], T],
        grid: Grid | None,
    ) -> None:
        self.windows, self.span = windows, span
        self.num_converted = 0
        self.num_lost = 0  # windows that reach beyond the last good frame, or lie beyond it
        self.end_s = Fraction(0)
        self._video_id, self._spec, self._time_base, self._convert = video_id, spec, time_base, convert
        self._grid = grid
        self._coming = iter(windows)
        self._open: deque[_Open[T]] = deque()
        self._shown: _Shown[T] | None = None
        self._upcoming = self._open_next()

    def bounds(self, window: Window) -> list[int]:
        """For each real grid time the last tick at or before it: a frame is on display from its own tick on."""
        if self._grid is None:
            return grid_ticks(window, self._spec, self._time_base)
        return grid_ticks(on_grid(window, self._grid), self._grid, self._time_base)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """(first, last) ticks of each stretch that the windows' grid times lie in, ascending and apart."""
        stretch: tuple[int, int] | None = None
        for window in self.windows:
            bounds = self.bounds(window)
            if stretch and bounds[0] <= stretch[1]:
                stretch = stretch[0], max(stretch[1], bounds[-1])
                continue
            if stretch:
                yield stretch
            stretch = bounds[0], bounds[-1]
        if stretch:
            yield stretch

    @property
    def is_done(self) -> bool:
        return self._upcoming is None and not self._open

    def show(self, ticks: int, frame: VideoFrame) -> Iterator[SampledClip[T]]:
        """Put a frame on display; `ticks` never falls. Yields the clips that this completes."""
        first = self._shown is None
        if self._shown is not None and ticks > self._shown.ticks:
            yield from self._take(self._shown, before=ticks)
        self._shown = _Shown(ticks, frame)
        if first:  # a grid time before the first frame takes the first frame
            yield from self._take(self._shown, before=ticks)

    def start_over(self) -> None:
        """Frames will come from the first again; what clips already hold stays."""
        self._shown = None

    def finish(self, *, end: int) -> Iterator[SampledClip[T]]:
        """No frame follows, and the last one is on display until `end` ticks."""
        assert self._shown is not None  # whoever feeds raises when there is no frame
        yield from self._take(self._shown, before=end)
        self.end_s = end * self._time_base
        num_cut = sum(not clip.is_full for clip in self._open)
        self.num_lost = num_cut + (self._upcoming is not None) + sum(1 for _ in self._coming)
        while self._open:
            clip = self._open.popleft()
            if clip.is_full or self._spec.tail != "drop" or self._grid is not None:
                yield self._clip(clip)
        self._upcoming = None

    def _take(self, shown: _Shown[T], *, before: int) -> Iterator[SampledClip[T]]:
        """Give `shown` to every grid time before the tick `before` that has no frame yet."""
        while self._upcoming is not None and self._upcoming.bounds[0] < before:
            self._open.append(self._upcoming)
            self._upcoming = self._open_next()
        for clip in self._open:
            while not clip.is_full and clip.bounds[len(clip.frames)] < before:
                if not shown.value:
                    shown.value.append(self._convert(shown.frame))
                    self.num_converted += 1
                clip.ticks.append(shown.ticks)
                clip.frames.append(shown.value[0])
        while self._open and self._open[0].is_full:
            yield self._clip(self._open.popleft())

    def _open_next(self) -> _Open[T] | None:
        window = next(self._coming, None)
        return None if window is None else _Open(window, self.bounds(window))

    def _clip(self, clip: _Open[T]) -> SampledClip[T]:
        num_frames = len(clip.frames)
        places = filled(num_frames, self._spec) if self._grid is None else list(range(num_frames))
        return SampledClip(
            clip_id=clip.window.clip_id(self._video_id),
            start_s=float(clip.window.start_s),
            end_s=float(clip.window.end_s),
            label_ids=clip.window.label_ids,
            frames=[clip.frames[k] for k in places],
            frame_pts_s=[float(clip.ticks[k] * self._time_base) for k in places],
            num_real_frames=num_frames,
        )
