"""When each frame of a video is on display, from its packets alone: nothing is decoded but the first frames.

The scan costs one reading of the file. It sees through headers that lie, gives the true extent before any window is
placed, and tells the decoder which packets nobody needs. Where the packets' timestamps can't be trusted to be the
frames' own (AVI and raw streams with reordered frames, missing or repeated timestamps) it says so, and every frame is
decoded.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.video.clock import Clock
from pipeline.video.probe import no_frames, open_video, packets
from pipeline.video.sample import MAX_GAP_S
from pipeline.video.truncation import is_cut

if TYPE_CHECKING:
    from av.packet import PktSideDataT  # exists for type checkers only

# Containers that store a presentation time with each frame. In others libavformat makes them up from the order.
# (ASF stores the time of sending, which is a dts.)
STORES_PTS = {"mov", "matroska", "mpegts", "mpeg", "flv", "ogg", "nut", "ivf", "gif"}
# Recordings of a broadcast begin anywhere, and nothing is lost with the frames before the first key frame. In a file of
# another kind these say that the first key frame is damaged.
RECORDINGS = {"mpegts", "mpeg", "flv"}
# Leaves out packets that it finds damaged and says nothing: what the decoder makes of the gap depends on all it was fed
HIDES_DAMAGE = {"flv"}
# The decoder must confirm so many frames before their packets' timestamps are believed: enough for one B-frame pattern
NUM_CONFIRMED = 4
# Packets that change the decoder for those that follow can't be passed over
CHANGES_DECODER: tuple[PktSideDataT, ...] = ("new_extradata", "param_change", "palette")
PROGRESS_PACKETS = 256

NONE = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The packets of a video in stored order (P of them) and the clock they give.

    ticks, is_key, num_bytes and is_shown are all (P,). ticks are pts in units of time_base, int64.
    """

    time_base: Fraction  # seconds per tick
    begin: int  # ticks: the first frame's timestamp
    end: int  # ticks: when the display of the last frame ends
    interval: int  # ticks: how long a last frame stays that does not say
    ticks: npt.NDArray[np.int64]
    is_key: npt.NDArray[np.bool_]
    seek_to: npt.NDArray[np.int64]  # (P,) ticks: a seek back from here lands at or before the packet
    num_bytes: npt.NDArray[np.int64]  # of each packet
    is_shown: npt.NDArray[np.bool_]  # neither cut off by an edit list, nor damaged, nor before the first key frame
    can_skip: bool  # packets' timestamps are their frames' own, and passing over packets does no harm
    has_pts: bool  # the container stores presentation times
    is_cut: bool  # the file ends before the length that it states
    num_damaged: int  # packets known to be damaged or before the first frame that decodes, and unreadable places
    num_late: int  # packets whose decoding time lies before that of one stored earlier: the clock runs back
    strays: frozenset[int]  # ticks of the few frames that lie MAX_GAP_S after ones stored later; not shown
    gaps: tuple[tuple[int, int], ...]  # ticks: more than MAX_GAP_S from a shown frame to the next, or to the end
    is_part: bool = False  # what a row asks for, and the first packets; see `part`
    holes: tuple[int, ...] = ()  # packets (0 … P-1) before each of which the file has some that are not here

    @property
    def begin_s(self) -> Fraction:
        return self.begin * self.time_base

    @property
    def end_s(self) -> Fraction:
        return self.end * self.time_base

    @property
    def gaps_s(self) -> list[tuple[Fraction, Fraction]]:
        return [(start * self.time_base, end * self.time_base) for start, end in self.gaps]


def scan(source: str | BinaryIO, *, progress: Callable[[int], None]) -> Timeline:
    """Read every packet of `source` once. `progress` is called with the count of packets so far.

    Memory: about 40 bytes a packet. Raises VideoError as `open_video` does, or no_frames where nothing decodes.
    """
    with open_video(source) as (container, stream):
        seen = Seen()
        confirm = FirstFrames(stream)
        for packet in packets(container, stream):
            seen.add(packet)
            confirm.feed(packet)
            if len(seen.pts) % PROGRESS_PACKETS == 0:
                progress(len(seen.pts))
        confirm.finish()
        if not confirm.frames:
            raise no_frames()
        time_base, interval = ticks_of(stream)
        names = set(container.format.name.split(","))
    return assemble(
        seen,
        confirm,
        time_base=time_base,
        interval=interval,
        has_pts=bool(names & STORES_PTS),
        is_recorded=bool(names & RECORDINGS),
        hides_damage=bool(names & HIDES_DAMAGE),
        cut=_is_cut(source),
    )


def ticks_of(stream: VideoStream) -> tuple[Fraction, int]:
    """Seconds per tick, and how many ticks a frame lasts at the rate that the header states."""
    assert stream.time_base is not None  # a demuxed stream always has one
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return stream.time_base, max(1, round(1 / (rate * stream.time_base)))


@dataclass(slots=True)
class Seen:
    """What is kept of each packet: P of each list, in stored order."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    durations: array[int] = field(default_factory=lambda: array("q"))
    num_bytes: array[int] = field(default_factory=lambda: array("q"))
    flags: bytearray = field(default_factory=bytearray)  # 1 key, 2 not to be shown
    num_damaged: int = 0
    changes_decoder: bool = False

    def add(self, packet: Packet[VideoStream] | None) -> None:
        if packet is None:
            self.num_damaged += 1
            return
        self.num_damaged += packet.is_corrupt
        hidden = packet.is_discard or packet.is_corrupt or _is_invisible(packet)
        self.pts.append(NONE if packet.pts is None else packet.pts)
        self.dts.append(NONE if packet.dts is None else packet.dts)
        self.durations.append(packet.duration or 0)
        self.num_bytes.append(packet.size)
        self.flags.append(packet.is_keyframe | hidden << 1)
        # the first packet may carry what the decoder has been given anyway
        if len(self.pts) > 1 and any(side.data_type in CHANGES_DECODER for side in packet.iter_sidedata()):
            self.changes_decoder = True


def _is_invisible(packet: Packet[VideoStream]) -> bool:
    # VP8 keeps its alt-ref frames in packets of their own, with a time stamp but never shown (RFC 6386, 9.1)
    return packet.stream.codec_context.name == "vp8" and packet.size > 0 and not memoryview(packet)[0] >> 4 & 1


class FirstFrames:
    """Decodes packets until NUM_CONFIRMED good frames came out, and keeps their timestamps."""

    def __init__(self, stream: VideoStream) -> None:
        self.frames: list[tuple[int | None, int | None, int]] = []  # pts, dts, duration
        self.is_clean = True
        self.is_interlaced = False
        self._context = stream.codec_context

    def feed(self, packet: Packet[VideoStream] | None) -> None:
        if packet is not None and len(self.frames) < NUM_CONFIRMED:
            self._decode(packet)

    def finish(self) -> None:
        if len(self.frames) < NUM_CONFIRMED:
            self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> None:
        try:
            frames: list[VideoFrame] = self._context.decode(packet)
        except MemoryError:  # also an FFmpegError, and no fault of the file
            raise
        except av.error.FFmpegError:
            self.is_clean = not self.frames and self.is_clean  # before the first key frame errors are no surprise
            return
        for frame in frames:
            if frame.is_corrupt:
                self.is_clean = False
            elif len(self.frames) < NUM_CONFIRMED:
                self.frames.append((frame.pts, frame.dts, frame.duration or 0))
                self.is_interlaced |= frame.interlaced_frame


def assemble(
    seen: Seen,
    confirm: FirstFrames,
    *,
    time_base: Fraction,
    interval: int,
    has_pts: bool,
    is_recorded: bool,
    hides_damage: bool,
    cut: bool,
) -> Timeline:
    """The timeline of the packets `seen`, of which `confirm` has decoded the first."""
    pts, dts = np.array(seen.pts, np.int64), np.array(seen.dts, np.int64)
    flags = np.frombuffer(bytes(seen.flags), np.uint8)
    is_key = (flags & 1).astype(bool)
    is_shown = (flags & 2) == 0
    is_complete = bool((pts != NONE).all())
    max_gap = int(MAX_GAP_S / time_base)
    is_stray = _strays(pts, max_gap) if has_pts else np.zeros(len(pts), bool)
    strays = frozenset(pts[is_stray].tolist())
    is_promised = is_shown.copy()  # frames that the file says it has
    if is_complete and is_key.any():
        is_from_key, has_reference = _decodable(pts, is_key, is_stray)
        is_shown &= is_from_key & has_reference
        is_promised &= has_reference & (is_from_key | (not is_recorded))
    is_shown &= ~is_stray
    is_trusted = (
        is_complete
        and bool(is_key.any())
        and (has_pts or bool((pts == dts).all()))
        and len(np.unique(pts)) == len(pts)
        and confirm.is_clean
        and [frame[0] for frame in confirm.frames] == np.sort(pts[is_shown])[: len(confirm.frames)].tolist()
    )
    first = Clock(has_pts=has_pts or is_trusted, interval=interval)
    begin = first.ticks(*next((frame for frame in confirm.frames if frame[0] not in strays), confirm.frames[0]))
    num_undecoded = int((pts[is_promised] < begin).sum()) if has_pts and is_complete else 0
    shown = np.where(pts == NONE, dts, pts)
    end = max(begin + 1, end_of(shown, np.array(seen.durations, np.int64), is_shown, begin, interval))
    return Timeline(
        time_base=time_base,
        begin=begin,
        end=end,
        interval=interval,
        ticks=pts,
        is_key=is_key,
        seek_to=np.where(dts == NONE, pts, np.minimum(pts, dts)),  # MP4 files are indexed by dts, Matroska by pts
        num_bytes=np.array(seen.num_bytes, np.int64),
        is_shown=is_shown,
        # Two packets may carry the two fields of an interlaced frame. What a decoder makes up for lost data depends on
        # all that it was fed.
        can_skip=is_trusted
        and not (confirm.is_interlaced or seen.changes_decoder or seen.num_damaged or strays or hides_damage),
        has_pts=has_pts or is_trusted,
        is_cut=cut,
        num_damaged=seen.num_damaged + num_undecoded,
        num_late=_num_late(dts[(dts != NONE) & ~is_stray]),
        strays=strays,
        gaps=gaps(shown[is_shown & (shown != NONE)], begin, end, max_gap),
    )


def _decodable(
    pts: npt.NDArray[np.int64], is_key: npt.NDArray[np.bool_], is_stray: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two (P,) bool: frames stored from the first key frame on; frames whose references are in the file."""
    first_key = int(is_key.argmax())
    is_from_key = np.arange(len(pts)) >= first_key
    # B-frames shown before the first key frame have lost theirs
    has_reference = ~is_from_key | (pts >= pts[first_key]) | is_stray[first_key]
    return is_from_key, has_reference


def _strays(ticks: npt.NDArray[np.int64], max_gap: int) -> npt.NDArray[np.bool_]:
    """(P,) bool: frames that leap ahead of frames stored later, where they are the exception.

    Where they are not, the later ones lie behind, as after a clock that started again.
    """
    is_stray = np.zeros(len(ticks), bool)
    known = np.flatnonzero(ticks != NONE)
    times = ticks[known].astype(np.float64)  # differences of absurd times would not fit int64
    is_ahead = times - np.minimum.accumulate(times[::-1])[::-1] > max_gap
    is_behind = np.maximum.accumulate(times) - times > max_gap
    if is_ahead.sum() < is_behind.sum():
        is_stray[known[is_ahead]] = True
    return is_stray


def gaps(ticks: npt.NDArray[np.int64], begin: int, end: int, max_gap: int) -> tuple[tuple[int, int], ...]:
    """Stretches of more than max_gap ticks from a frame to the next, or from the last to `end`."""
    times = np.append(np.sort(ticks[ticks >= begin]), end)
    starts = np.flatnonzero(np.diff(times.astype(np.float64)) > max_gap)
    return tuple((int(times[at]), int(times[at + 1])) for at in starts)


def _num_late(dts: npt.NDArray[np.int64]) -> int:
    return int((dts[1:] < np.maximum.accumulate(dts)[:-1]).sum()) if len(dts) else 0


def end_of(
    ticks: npt.NDArray[np.int64],
    durations: npt.NDArray[np.int64],
    is_shown: npt.NDArray[np.bool_],
    begin: int,
    interval: int,
) -> int:
    """When the last shown frame leaves: its duration later, else the interval before it, else one at the rate."""
    known = np.flatnonzero(is_shown & (ticks != NONE))
    if not len(known):
        return begin + int(is_shown.sum()) * interval
    order = known[np.argsort(ticks[known], kind="stable")]
    last = order[-1]
    if durations[last] > 0:
        return int(ticks[last] + durations[last])
    before = ticks[last] - ticks[order[-2]] if len(order) > 1 else 0
    return int(ticks[last]) + (int(before) if before > 0 else interval)


def _is_cut(source: str | BinaryIO) -> bool:
    if not isinstance(source, str):
        return is_cut(source)
    with Path(source).open("rb") as file:
        return is_cut(file)
