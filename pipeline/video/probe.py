"""Opening a video and saying what is in it. Nothing that a header merely claims (frames, duration) is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.video.errors import VideoError

NO_PROTOCOL = "none"  # the name of no protocol; an empty list would mean the same, but looks like a forgotten one
READ_BYTES = 1 << 16
MAX_READ_ERRORS = 16  # in a row, without one packet between them: the rest of the file is lost
NOT_A_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video stream, as its first decoded frame shows it."""

    container: str  # libavformat's name, such as "avi" or "mov,mp4,m4a,3gp,3g2,mj2"
    codec: str  # libavcodec's name of the format, such as "h264"
    width_px: int  # as displayed: after rotation
    height_px: int
    rotation_deg: int  # counter-clockwise turn that stands the stored picture upright: -90, 0, 90, 180 …
    pixel_format: str  # such as "yuv420p"
    time_base: Fraction  # seconds per tick of the presentation clock
    rate: Fraction | None  # frames per second, on average, as the header has it: a hint, not a fact


def probe(source: str | BinaryIO) -> VideoInfo:
    """What `source` (a local path or a seekable binary file) shows.

    Decodes as far as the first frame. Raises VideoError: missing, empty_file, unreadable, no_video, unsupported or
    no_frames.
    """
    with open_video(source) as (container, stream):
        frame = next((f for p in chain(packets(container, stream), [None]) for f in _good_frames(stream, p)), None)
        if frame is None:
            raise no_frames()
        turned = frame.rotation % 180 != 0
        assert stream.time_base is not None  # a demuxed stream always has one
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width_px=frame.height if turned else frame.width,
            height_px=frame.width if turned else frame.height,
            rotation_deg=frame.rotation,
            pixel_format=frame.format.name,
            time_base=stream.time_base,
            rate=stream.average_rate,
        )


def no_frames() -> VideoError:
    return VideoError("no_frames", "the file has a video stream, but not one frame of it decodes; fetch it again")


@contextmanager
def open_video(source: str | BinaryIO) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container and its video stream, with a single-threaded decoder, for as long as the block lasts.

    A binary file is read from its start and left open. Raises VideoError: missing, empty_file, unreadable, no_video or
    unsupported.
    """
    with _open(source) as container:
        yield container, _video_stream(container)


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
    """The packets of `stream` in stored order; None stands for a place where the file can't be read.

    Reading goes on after such a place; the empty packets by which a demuxer says "end" are not among them.
    """
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None:
                    return
                errors = 0
                yield packet
            return
        except av.error.EOFError:
            return
        except MemoryError:  # also an FFmpegError, and no fault of the file
            raise
        except av.error.FFmpegError:
            errors += 1
            yield None


def _good_frames(stream: VideoStream, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
    """The undamaged frames that `packet`, or with None the decoder's end, brings."""
    try:
        return [frame for frame in stream.codec_context.decode(packet) if not frame.is_corrupt]
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return []


@contextmanager
def _open(source: str | BinaryIO) -> Iterator[InputContainer]:
    with ExitStack() as stack:
        try:
            # A local file is opened here, not by libav, which thus may be forbidden to open anything: a playlist that
            # calls itself a video (HLS, DASH, concat, SDP …) reaches no other file and no address.
            file = stack.enter_context(Path(source).open("rb", buffering=0)) if isinstance(source, str) else source
            if _num_bytes(file) == 0:
                raise VideoError("empty_file", "the file has no bytes; fetch it again")
            container = av.open(
                file,
                mode="r",
                metadata_errors="ignore",  # titles that are not UTF-8 are common in old AVI files
                options={"protocol_whitelist": NO_PROTOCOL},
                buffer_size=READ_BYTES,
            )
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            what = error.strerror or type(error).__name__
            raise VideoError("unreadable", f"this is not a video, or it is damaged where it matters ({what})") from None
        except FileNotFoundError:
            raise VideoError("missing", "there is no such file") from None
        yield stack.enter_context(container)


def _num_bytes(file: BinaryIO) -> int:
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return num_bytes


def _video_stream(container: InputContainer) -> VideoStream:
    name = container.format.name
    if name == "image2" or name.endswith("_pipe") or name == "tty":
        raise VideoError("no_video", f"this is a picture or text ({name}), not a video")
    streams = [s for s in container.streams.video if not s.disposition & NOT_A_VIDEO]
    if not streams:
        have = "only sound" if container.streams.audio else "no video stream"
        raise VideoError("no_video", f"the file holds {have}; leave it out of the source")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all  # its packets are not even read where the container allows
    context = cast("av.VideoCodecContext | None", stream.codec_context)
    if context is None:
        raise VideoError("unsupported", "no decoder here knows this video's codec; convert it with ffmpeg")
    context.thread_count = 1  # more would deadlock under load (PyAV #1962) and put off what skip_frame says
    return stream
