"""The timeline of the part of a video that a row asks for: the index, the first frames, and the windows are read.

    index   head                K . . . a = = = b . ·17· K          K key frame, = what the windows show
    ├───────┼────┤   not read   ├───────────────────────┤  not read

The container's index says where key frames lie. Reading starts at the last key frame shown at or before a window's
first grid time (what is stored before a key frame is shown before it: every codec with key frames has it so), and stops
when no later frame can be shown before its last one. Frames are where the file's own
packets say they are, as in `timeline.scan`; the index only tells where to look. So windows, frames and times are those
of the whole file's timeline, and what the rest of the file holds, or lost, is nothing to this row.

What the whole scan learns from the whole file, and where it comes from here:

    the first frame's time      the head: as many packets as bring the first frames out of the decoder
    the end of the video        an index entry at or after `until_s` proves that the video reaches it; where there is
                                none, the packets from the last key frame on are read, and the end is exact
    gaps, leaps of the clock    the packets around each window; one that would leave out a window is a doubt
    the file is cut, damaged    only where it is read; any sign of it is a doubt

At any doubt (a container without such an index, times in the index that do not ascend, packets that differ from it,
and all that keeps `scan` from trusting packets) DoubtError is raised, and the caller reads the whole file. Whether
there is one depends on the file and the row only, never on where the file lies.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.video.feed import SEEK_BYTES
from pipeline.video.probe import open_video, packets
from pipeline.video.sample import MAX_GAP_S
from pipeline.video.timeline import NUM_CONFIRMED, FirstFrames, Seen, Timeline, assemble, end_of, gaps, ticks_of
from pipeline.video.truncation import has_one_index, is_cut

# No codec stores a frame after more than so many that are shown later (H.264 and HEVC allow 16, others fewer).
NUM_REORDERED = 16
# A key frame's time in the index may be that of its decoding, so the one found may be shown too late
MAX_STEPS_BACK = 4


class DoubtError(Exception):
    """The part alone does not settle what the whole file would."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The key frames that the container's index names, in stored order (K of them)."""

    ticks: list[int]  # (K,) ascending; of decoding in MP4, of display in Matroska
    pos: list[int]  # (K,) bytes, never falling: where the frame, or the cluster that holds it, lies
    last: int  # ticks of the last frame it names
    last_shown: int  # and of the last that is shown and in the file: the video goes on at least so far
    is_of_decoding: bool  # and names every frame

    def time_of(self, packet: Packet[VideoStream]) -> int | None:
        return packet.dts if self.is_of_decoding else packet.pts


@contextmanager
def open_part(source: str | BinaryIO, *, until_s: Fraction | None, read: Callable[[], None]) -> Iterator[Part]:
    """The part of `source` for windows that end before `until_s`; None where they may reach to the video's end.

    `read` is called for each packet. Raises DoubtError, and VideoError as `open_video` does.
    """
    has_index, cut, num_bytes = _layout(source)
    if not has_index:
        raise DoubtError("a container without an index of the whole video")
    with open_video(source) as (container, stream):
        index, is_moved = _read_index(container, stream, num_bytes)
        end = None if until_s is None else ceil(until_s / ticks_of(stream)[0])
        if end is None or index.last_shown < end:
            if cut:
                raise DoubtError("a file that is cut")
            end, is_moved = _exact_end(container, stream, index, read), True
        if not is_moved:
            yield Part(container, stream, index, end=end, cut=cut, read=read)
            return
    with open_video(source) as (container, stream):  # from its start, as `scan` has it
        yield Part(container, stream, index, end=end, cut=cut, read=read)


class Part:
    """A video of which the windows will be read.

    Times before `end` are the video's, and `end` is the video's own end, or the `until_s` that was asked for.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        index: _Index,
        *,
        end: int,
        cut: bool,
        read: Callable[[], None],
    ) -> None:
        self._container, self._stream, self._index = container, stream, index
        self._cut, self._read = cut, read
        self._packets = packets(container, stream)
        self._seen = Seen()
        self._holes: list[int] = []  # packets, by number, before which some were not read
        self._confirm = FirstFrames(stream)
        self._lag = 0  # ticks: the most by which a frame of the head is shown after its time in the index
        self._last_key = self._last_pos = 0  # index's ticks, and bytes: how far the reading is
        self._ended = False
        self.time_base, self._interval = ticks_of(stream)
        self.end = end
        self.begin = self._read_head()

    @property
    def begin_s(self) -> Fraction:
        return self.begin * self.time_base

    @property
    def end_s(self) -> Fraction:
        return self.end * self.time_base

    @property
    def gaps_s(self) -> tuple[()]:
        """None: where one matters `timeline` has its doubts."""
        return ()

    def timeline(self, ranges: Iterable[tuple[int, int]]) -> Timeline:
        """The packets that decide what is on display from `first` to `last`, for each (first, last) of ranges.

        `ranges` are ticks within [begin, end), ascending and apart. Raises DoubtError.
        """
        for first, last in ranges:
            self._go_to(first)
            self._read_past(last)
        return replace(self._checked(), end=self.end, is_part=True, holes=tuple(self._holes))

    def _read_head(self) -> int:
        """Read and decode as far as the first frames; the first one's time."""
        while len(self._confirm.frames) < NUM_CONFIRMED:
            packet = self._next()
            if packet is None:
                raise DoubtError("a handful of frames")
            self._confirm.feed(packet)
            pts, time = self._add(packet)
            self._lag = max(self._lag, pts - time)
            if len(self._seen.pts) == 1 and (time != self._index.ticks[0] or not packet.is_keyframe):
                raise DoubtError("the index does not begin with the first frame")
        return self._checked().begin

    def _go_to(self, ticks: int) -> None:
        """Be at or before the last key frame that is shown at or before `ticks`."""
        index = self._index
        found = max(0, bisect_right(index.ticks, ticks - self._lag) - 1)
        for key in range(found, max(-1, found - MAX_STEPS_BACK), -1):
            if index.ticks[key] <= self._last_key:
                if key < found:
                    raise DoubtError("a seek went too far")
                return
            if key == found and index.pos[key] - self._last_pos <= SEEK_BYTES:
                return
            if self._seek(index.ticks[key], ticks):
                return
        raise DoubtError("no key frame is shown before a window")

    def _seek(self, key: int, ticks: int) -> bool:
        """Go on at the key frame whose time in the index is `key`; False where it is not shown by `ticks`."""
        _move(self._container, self._stream, key)
        self._packets = packets(self._container, self._stream)
        packet = self._next()
        if packet is None:
            raise DoubtError("nothing where the index names a key frame")
        pts, time = self._times(packet)
        # A key frame of HEVC whose followers need frames before it makes libavformat go further back
        if not packet.is_keyframe or not self._last_key < time <= key:
            raise DoubtError("a seek leads elsewhere than to the key frame asked for")
        if pts > ticks or packet.is_discard:  # an edit list may hide a key frame that others need
            return False
        self._holes.append(len(self._seen.pts))
        self._add(packet)
        return True

    def _read_past(self, ticks: int) -> None:
        """Read on until no frame can follow that is shown at or before `ticks`."""
        num_later = 0
        while not self._ended:
            packet = self._next()
            if packet is None:
                self._end()
                return
            pts, _ = self._add(packet)
            num_later += pts > ticks
            if num_later > NUM_REORDERED and (packet.dts is None or packet.dts > ticks):
                return

    def _end(self) -> None:
        self._ended = True
        if self._cut or (self._index.is_of_decoding and self._seen.dts[-1] != self._index.last):
            raise DoubtError("the file ends before its index does")

    def _next(self) -> Packet[VideoStream] | None:
        """The next packet, or None at the end."""
        try:
            packet = next(self._packets)
        except StopIteration:
            return None
        if packet is None:
            raise DoubtError("a place that can't be read")
        self._read()
        return packet

    def _times(self, packet: Packet[VideoStream]) -> tuple[int, int]:
        """Ticks: of display, and as the index would have it."""
        time = self._index.time_of(packet)
        if packet.pts is None or time is None:
            raise DoubtError("a packet without its time")
        return packet.pts, time

    def _add(self, packet: Packet[VideoStream]) -> tuple[int, int]:
        """Take it in; its _times."""
        pts, time = self._times(packet)
        self._seen.add(packet)
        if packet.is_keyframe:
            self._last_key = time
        self._last_pos = max(self._last_pos, packet.pos or 0)
        # What is stored after a key frame and shown before it may refer to frames that are not here
        if self._holes and pts < self._seen.pts[self._holes[-1]]:
            self._seen.flags[-1] |= 2
        return pts, time

    def _checked(self) -> Timeline:
        """The timeline of what has been read. Raises DoubtError where the whole file had better be read."""
        timeline = assemble(
            self._seen,
            self._confirm,
            time_base=self.time_base,
            interval=self._interval,
            has_pts=True,
            is_recorded=False,
            hides_damage=False,
            cut=False,
        )
        if not timeline.can_skip or timeline.num_damaged or timeline.num_late:
            raise DoubtError("packets that can't be trusted")
        max_gap = int(MAX_GAP_S / self.time_base)
        bounds = [0, *self._holes, len(timeline.ticks)]
        for start, stop in pairwise(bounds):
            ticks = timeline.ticks[start:stop][timeline.is_shown[start:stop]]
            last = timeline.end if self._ended and stop == bounds[-1] else int(ticks.max())
            if gaps(ticks, timeline.begin, last, max_gap):
                raise DoubtError("timestamps jump")
        return replace(timeline, gaps=())


def _layout(source: str | BinaryIO) -> tuple[bool, bool, int]:
    """has_one_index, is_cut, and the file's bytes."""
    if not isinstance(source, str):
        return has_one_index(source), is_cut(source), source.seek(0, os.SEEK_END)
    if not Path(source).is_file():
        raise DoubtError("not a file")
    with Path(source).open("rb") as file:
        return _layout(file)


def _read_index(container: InputContainer, stream: VideoStream, num_bytes: int) -> tuple[_Index, bool]:
    """The index, and whether the container had to be moved for it."""
    is_mp4 = "mov" in container.format.name.split(",")
    if not is_mp4:
        _move(container, stream, 0)  # libavformat reads the Cues at the first seek
    entries = list(stream.index_entries)
    keys = [(entry.timestamp, entry.pos) for entry in entries if entry.is_keyframe]
    shown = [e.timestamp for e in entries if not e.is_discard and e.pos + e.size <= num_bytes]
    times = np.array([entry.timestamp for entry in entries], np.int64)
    if not keys or not shown or (np.diff(times) <= 0).any() or (np.diff([pos for _, pos in keys]) < 0).any():
        raise DoubtError("an index that does not ascend")
    ticks, pos = ([key[field] for key in keys] for field in (0, 1))
    if not is_mp4 and pos[-1] < num_bytes // 2:  # these are the key frames met so far, or there are hardly any
        raise DoubtError("an index of the first frames only")
    return _Index(ticks, pos, last=int(times[-1]), last_shown=shown[-1], is_of_decoding=is_mp4), not is_mp4


def _move(container: InputContainer, stream: VideoStream, ticks: int) -> None:
    try:
        container.seek(ticks, stream=stream)
    except av.error.FFmpegError:
        raise DoubtError("a seek fails") from None


def _exact_end(container: InputContainer, stream: VideoStream, index: _Index, read: Callable[[], None]) -> int:
    """Ticks: when the last frame's display ends, from the packets that follow the last key frame."""
    seen = Seen()
    _move(container, stream, index.ticks[-1])
    for packet in packets(container, stream):
        if packet is None or packet.pts is None:
            raise DoubtError("a place that can't be read")
        read()
        seen.add(packet)
    pts, durations = np.array(seen.pts, np.int64), np.array(seen.durations, np.int64)
    is_shown = np.array([not flags & 2 for flags in seen.flags], bool)
    if not len(pts) or (index.is_of_decoding and seen.dts[-1] != index.last):
        raise DoubtError("the file ends before its index does")
    if is_shown.sum() < 2 and not durations.all():
        raise DoubtError("a last frame that does not say how long it stays")
    return end_of(pts, durations, is_shown, int(pts.min()), ticks_of(stream)[1])
