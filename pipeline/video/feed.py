"""Decoded frames with their times, in order of display: all of them, or only the needed ones at a fraction of the cost.

`needed_frames` leaves out work in two ways that change no pixel of what it gives:

    K . . n . . . n . . . . . K . . . . . . . . K . . n      K key frame, n needed, . needed by nobody
    ├── run ──────┤           not read, or not fed ├ run ┤   a run starts at the last key frame at or before its first n
      -   -   - -             - not decoded if no other frame refers to it (skip_frame = NONREF)

It is strict about what comes out: a needed frame that fails to appear, an error, damage or a frame out of order
raises SurpriseError, and the caller decodes everything instead. So the outcome for a good video is that of decoding
everything. Damage shows only where it touches what is fed; and where a decoder covers it up without a word, what it
makes up may depend on what it was fed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.video.clock import Clock
from pipeline.video.probe import open_video, packets
from pipeline.video.timeline import PROGRESS_PACKETS, Timeline

# Reading on over so many bytes of video costs about what a seek does, on a disk as on an object store
SEEK_BYTES = 1 << 20
# mpegts finds its place by guessing, and flv and raw streams by reading everything
SEEKS_WELL = {"mov", "matroska", "avi"}


class SurpriseError(Exception):
    """The packets promised a frame that the decoder does not give."""


class Work:
    """Counts what has been done on one video, and reports it."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.num_frames = 0  # that came out of the decoder, in the passes after the scan
        self._steps = 0  # packets read and frames decoded: it grows as long as anything moves
        self._progress = progress

    def scanned(self, num_packets: int) -> None:
        self._steps = max(self._steps + 1, num_packets)  # a part may have been read before
        self._progress(self._steps)

    def read(self) -> None:
        self._steps += 1
        if self._steps % PROGRESS_PACKETS == 0:
            self._progress(self._steps)

    def decoded(self, num_frames: int) -> None:
        if num_frames:
            self.num_frames += num_frames
            self._steps += num_frames
            self._progress(self._steps)


# ---------------------------------------------------------------- everything


class AllFrames:
    """Every good frame of a video in order of display, with what went wrong on the way."""

    def __init__(self, source: str | BinaryIO, timeline: Timeline, work: Work) -> None:
        self.num_errors = 0  # packets that did not decode and frames that came out damaged
        self.num_late = 0  # frames whose time lies before one already shown
        self.num_strays = 0  # frames at which the clock leaps and comes back
        self.end: int | None = None  # ticks: when the last frame's display ends
        self._source, self._timeline, self._work = source, timeline, work

    def __iter__(self) -> Iterator[tuple[int, VideoFrame]]:
        """(ticks, frame), ticks never falling. A frame with the time of the one before takes its place."""
        clock = Clock(has_pts=self._timeline.has_pts, interval=self._timeline.interval)
        shown: int | None = None
        for frame in self._decoded():
            if frame.pts in self._timeline.strays:
                self.num_strays += 1
                continue
            ticks = clock.ticks(frame.pts, frame.dts, frame.duration or 0)
            if shown is not None and ticks < shown:
                self.num_late += 1
                continue
            shown = ticks
            self.end = ticks + (frame.duration or self._timeline.interval)
            frame.time_base = self._timeline.time_base  # a decoder's last frames come without
            yield ticks, frame

    def _decoded(self) -> Iterator[VideoFrame]:
        begun = False
        with open_video(self._source) as (container, stream):
            for packet in _until_the_end(container, stream):
                self._work.read()
                try:
                    frames = stream.codec_context.decode(packet)
                except MemoryError:  # also an FFmpegError, and no fault of the file
                    raise
                except av.error.FFmpegError:
                    self.num_errors += begun  # before the first frame there is nothing to refer to
                    continue
                self._work.decoded(len(frames))
                for frame in frames:
                    self.num_errors += begun and frame.is_corrupt
                    if not frame.is_corrupt:
                        begun = True
                        yield frame


def _until_the_end(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
    """The packets, and then the None by which a decoder gives up what it still holds."""
    yield from (packet for packet in packets(container, stream) if packet is not None)
    yield None


# ---------------------------------------------------------------- the needed ones


def needed_frames(
    source: str | BinaryIO, timeline: Timeline, needed: npt.NDArray[np.int64], work: Work
) -> Iterator[tuple[int, VideoFrame]]:
    """(ticks, frame) of the frames whose times are `needed` (ascending ticks), and of no other.

    Takes a timeline with can_skip. Raises SurpriseError as soon as the decoder does not give what the packets promised.
    """
    waiting = iter(needed.tolist())
    due = next(waiting, None)
    for frame in _in_order(_decode_runs(source, timeline, needed, work)):
        if due is None or frame.pts < due:
            continue
        if frame.pts > due:
            raise SurpriseError(f"no frame at {due} ticks")
        frame.time_base = timeline.time_base  # a decoder's last frames come without
        yield due, frame
        due = next(waiting, None)
    if due is not None:
        raise SurpriseError(f"no frame at {due} ticks")


def _in_order(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    last: int | None = None
    for frame in frames:
        if frame.pts is None or frame.is_corrupt or (last is not None and frame.pts <= last):
            raise SurpriseError(f"a frame that is damaged or out of order, {frame.pts} after {last} ticks")
        last = frame.pts
        yield frame


def _decode_runs(
    source: str | BinaryIO, timeline: Timeline, needed: npt.NDArray[np.int64], work: Work
) -> Iterator[VideoFrame]:
    order = np.argsort(timeline.ticks)
    wanted = np.zeros(len(order), bool)
    wanted[order[np.searchsorted(timeline.ticks, needed, sorter=order)]] = True
    reader = _Reader(source, timeline, order, work)
    try:
        for first, last in _with_the_first_key(timeline, np.flatnonzero(wanted)):
            context, reading = reader.start(first)
            for index, packet in reading:
                # frames shown before the key frame they follow refer to what this run has not decoded
                if wanted[index] or timeline.ticks[index] >= timeline.ticks[first]:
                    # not for the first: libdav1d keeps for good what it is told when it opens
                    context.skip_frame = "DEFAULT" if wanted[index] or index == first else "NONREF"
                    yield from _decode(context, packet, work)
                if index == last:
                    break
            yield from _decode(context, None, work)
            context.flush_buffers()
    finally:
        reader.close()


def _with_the_first_key(timeline: Timeline, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    # The first packet may name the encoder that wrote the video, whose bugs the decoder then allows for: without
    # x264's name, a 4:4:4 picture of its older builds comes out as noise.
    head = int(timeline.is_key.argmax())
    for first, last in runs(timeline.ticks, timeline.is_key, wanted):
        if first > head >= 0:
            yield head, head
        head = -1
        yield first, last


def runs(
    ticks: npt.NDArray[np.int64], is_key: npt.NDArray[np.bool_], wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """(first, last) packets of each stretch to feed, ascending and apart: what the `wanted` packets depend on.

    ticks and is_key are (P,); `wanted` ascends. A run starts at a key frame: the last one stored at or before a wanted
    packet and also shown at or before it.
    """
    keys = np.flatnonzero(is_key)
    firsts = []
    for packet in wanted.tolist():
        at = int(np.searchsorted(keys, packet, side="right")) - 1
        while at > 0 and ticks[keys[at]] > ticks[packet]:
            at -= 1
        firsts.append(int(keys[max(at, 0)]))
    # a frame that follows a key frame but is shown before it pulls the start of the key frame's own run back
    bounds = np.minimum.accumulate(np.array(firsts, np.int64)[::-1])[::-1].tolist()
    start = stop = -1
    for first, packet in zip(bounds, wanted.tolist(), strict=True):
        if stop < 0 or first > stop + 1:
            if stop >= 0:
                yield start, stop
            start = first
        stop = packet
    if stop >= 0:
        yield start, stop


def _decode(context: av.VideoCodecContext, packet: Packet[VideoStream] | None, work: Work) -> list[VideoFrame]:
    try:
        frames = context.decode(packet)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise SurpriseError(str(error)) from None
    work.decoded(len(frames))
    return frames


class _Reader:
    """Packets by their number in the timeline: read on, or after a seek."""

    def __init__(self, source: str | BinaryIO, timeline: Timeline, order: npt.NDArray[np.int64], work: Work) -> None:
        self._opened = open_video(source)
        self._container, self._stream = self._opened.__enter__()
        self._packets = packets(self._container, self._stream)
        self._timeline, self._order, self._work = timeline, order, work
        self._next = 0  # number of the packet that comes next
        self._can_seek = bool(set(self._container.format.name.split(",")) & SEEKS_WELL)

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def start(self, first: int) -> tuple[av.VideoCodecContext, Iterator[tuple[int, Packet[VideoStream]]]]:
        """The decoder, and the numbered packets from `first` on."""
        between = self._timeline.num_bytes[self._next : first].sum()
        has_hole = any(self._next <= hole <= first for hole in self._timeline.holes)
        if has_hole or (self._can_seek and between > SEEK_BYTES):
            self._container.seek(int(self._timeline.seek_to[first]), stream=self._stream)
            self._packets = packets(self._container, self._stream)
            self._next = -1
        return self._stream.codec_context, self._from(first)

    def _from(self, first: int) -> Iterator[tuple[int, Packet[VideoStream]]]:
        for packet in self._packets:
            if packet is None:
                raise SurpriseError("a place that can't be read")
            self._work.read()
            if self._is_before(packet, first):
                continue
            index = self._number(packet)
            if self._next < 0 and index > first:
                raise SurpriseError("a seek that went too far")
            self._next = index + 1
            if index >= first:
                yield index, packet
        raise SurpriseError("the packets end too early")

    def _is_before(self, packet: Packet[VideoStream], first: int) -> bool:
        """Whether a seek went to a place in a hole of the timeline, before the packet `first`."""
        if self._next >= 0 or not self._timeline.holes or packet.pts is None:
            return False
        return bool(packet.pts < self._timeline.ticks[first]) and packet.pts not in self._timeline.ticks

    def _number(self, packet: Packet[VideoStream]) -> int:
        ticks = self._timeline.ticks
        if self._next >= 0:
            index = self._next
        else:  # after a seek the packet says where it is
            at = int(np.searchsorted(ticks, packet.pts, sorter=self._order)) if packet.pts is not None else len(ticks)
            index = int(self._order[at]) if at < len(ticks) else -1
        if not 0 <= index < len(ticks) or ticks[index] != packet.pts:
            raise SurpriseError("packets differ from those of the scan")
        return index
