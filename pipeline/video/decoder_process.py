"""The process that touches video files: decode, transform, encode. Run by `pipeline.video.guard`, never by hand.

    python -m pipeline.video.decoder_process REQUEST_FD REPLY_FD PARENT_PID MEMORY_BYTES DIE_WITH_THREAD

Requests and replies are messages of `pipeline.video.wire` on two pipes of their own, because native libraries
print on stdout and stderr. One request is one video: {"row": …, "spec": …, "grid": …}; with a grid (pipeline.video.
sample) that is not null the frames are gray, as they are. Replies, by "kind":

    ready      once, after the imports
    progress   {"count"}: at most some ten a second, and only when the count of work done has grown
    storage    {"is_asked"}: true before a remote storage is asked for bytes, false when it has answered
    wait       {"sentence", "is_away"}: it does not answer, or answers again (pipeline.storage.patience.telling)
    clip       the fields of wire.EncodedClip, the members' bytes as blobs
    done       the fields of wire.Outcome; the video is finished
    error      {"reason", "message"} and, where it is known, {"num_bytes_read"}; the video is finished. Of the
               video the reason "storage" says nothing
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import av
import cv2

from pipeline.storage.patience import telling
from pipeline.video import wire
from pipeline.video.decode import Decoded, sample_video
from pipeline.video.encode import encode_clip, encode_frame, gray_members
from pipeline.video.errors import VideoError
from pipeline.video.sample import Grid
from pipeline.video.source import Source, open_source
from pipeline.video.transform import Transform
from pipeline.video.wire import EncodedClip, Outcome
from schemas.errors import StorageError
from schemas.video_row import Segment, VideoRow

if TYPE_CHECKING:
    from schemas.config import Clips

PROGRESS_EVERY_S = 0.1
PR_SET_PDEATHSIG = 1
MEMORY_DOUBT = (
    "it looks damaged, but decoding came close to the memory limit, which libav may take for damage: "
    "raise limits.memory_gb to see"
)

STATUS = Path("/proc/self/status")

Send = Callable[..., None]


def main(arguments: list[str]) -> None:
    request_fd, reply_fd, parent_pid, memory_bytes, die_with_thread = (int(value) for value in arguments)
    # Ctrl-C and a batch system's SIGTERM reach the whole group; the parent decides what becomes of this process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent(request_fd, parent_pid, by_signal=bool(die_with_thread))
    av.logging.set_level(None)
    cv2.setNumThreads(1)
    memory = _Memory(memory_bytes)
    with os.fdopen(request_fd, "rb") as requests, os.fdopen(reply_fd, "wb") as replies:

        def send(kind: str, *, blobs: list[bytes] | None = None, **fields: Any) -> None:
            wire.write(replies, {"kind": kind, **fields}, blobs or [])
            replies.flush()

        send("ready")
        while True:
            try:
                request, _ = wire.read(wire.exactly(requests))
            except EOFError:
                return
            serve(request, send, memory)


def serve(request: dict[str, Any], send: Send, memory: _Memory) -> None:
    """Answer one request: clips and then done, or an error."""
    try:
        grid = Grid(**request["grid"]) if request["grid"] else None
        outcome = _sample(_row(request["row"]), _spec(request["spec"]), grid, send)
        if outcome.partial and memory.was_short():
            send("error", reason="out_of_memory", message=MEMORY_DOUBT)
        else:
            send("done", **asdict(outcome))
    except VideoError as error:
        if memory.was_short():
            send("error", reason="out_of_memory", message=MEMORY_DOUBT)
        else:
            send("error", reason=error.reason, message=error.message, num_bytes_read=error.num_bytes_read)
    except BrokenPipeError:
        raise  # the parent is gone
    except StorageError as error:
        send("error", reason="storage", message=str(error))
    except Exception as error:
        # whatever else a damaged file provokes costs its own row; the parent has the text
        if _is_memory(error):
            send("error", reason="out_of_memory", message="")
        else:
            send("error", reason="decoder_error", message=f"{type(error).__name__}: {error}")


def _sample(row: VideoRow, spec: Clips, grid: Grid | None, send: Send) -> Outcome:
    with (
        telling(lambda sentence, is_away: send("wait", sentence=sentence, is_away=is_away)),
        open_source(row.uri, on_storage=lambda is_asked: send("storage", is_asked=is_asked)) as source,
    ):
        try:
            decoded = _send_clips(source, row, spec, grid, send)
        except VideoError as error:
            error.num_bytes_read = source.num_bytes_read
            raise
        return Outcome(
            num_frames_decoded=decoded.num_frames_decoded,
            num_frames_used=decoded.num_frames_used,
            partial=decoded.partial,
            reason=decoded.reason,
            message=decoded.message,
            num_bytes_read=source.num_bytes_read,
            reading_s=source.reading_s,
        )


def _send_clips(source: Source, row: VideoRow, spec: Clips, grid: Grid | None, send: Send) -> Decoded:
    transform = Transform(spec, gray=grid is not None)
    clips = sample_video(
        source.file,
        row,
        spec,
        convert=transform if grid else lambda frame: encode_frame(transform(frame), spec),
        progress=_throttled(send),
        grid=grid,
    )
    while True:
        try:
            clip = next(clips)
        except StopIteration as stop:
            return cast(Decoded, stop.value)
        height_px, width_px = transform.size_px
        header, blobs = EncodedClip(
            clip_id=clip.clip_id,
            start_s=clip.start_s,
            end_s=clip.end_s,
            label_ids=tuple(clip.label_ids),
            frame_pts_s=tuple(clip.frame_pts_s),
            num_real_frames=clip.num_real_frames,
            height_px=height_px,
            width_px=width_px,
            members=gray_members(clip.frames) if grid else encode_clip(clip.frames, spec),
        ).message()
        send("clip", blobs=blobs, **header)


def _throttled(send: Send) -> Callable[[int], None]:
    """A progress callback that passes on growing counts only, and not too often: a decoder that turns in circles
    must look stalled."""
    state = {"count": 0, "at": 0.0}

    def progress(count: int) -> None:
        now = time.monotonic()
        if count > state["count"] and now - state["at"] >= PROGRESS_EVERY_S:
            state["count"], state["at"] = count, now
            send("progress", count=count)

    return progress


def _row(fields: dict[str, Any]) -> VideoRow:
    segments = tuple(Segment(**segment) for segment in fields.pop("segments"))
    labels, label_ids = tuple(fields.pop("labels")), tuple(fields.pop("label_ids"))
    return VideoRow(**fields, labels=labels, label_ids=label_ids, segments=segments)


def _spec(fields: dict[str, Any]) -> Clips:
    # The parent has validated it. Building pydantic's models again would be a third of this process's start.
    sizes = {name: tuple(fields[name]) for name in ("resize", "crop") if fields[name]}
    return cast("Clips", SimpleNamespace(**{**fields, **sizes}))


# ---------------------------------------------------------------- this process


def _die_with_parent(request_fd: int, parent_pid: int, *, by_signal: bool) -> None:
    """End this process when its parent does, however that ends.

    The request pipe hangs up when the parent's end is closed, by whatever means; a thread waits for that. The
    kernel's own signal also works while native code holds the interpreter, but follows the parent's *thread*,
    so the parent asks for it only where that thread lives as long as the process.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(request_fd, 0)  # no events asked: only a hang-up wakes it
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if by_signal and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the lines above
        os._exit(1)


class _Memory:
    """Lets private memory grow by `num_bytes` beyond what the imports took. An allocation beyond that fails, which
    numpy and cv2 report as errors. libav reports some, and hides others behind frames that do not decode."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self._start = 0
        if STATUS.exists():
            self._start = _status_bytes("VmSize")
            limit = _status_bytes("VmData") + num_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def was_short(self) -> bool:
        """Whether at some time more than half of it was in use: one more allocation may have been too many."""
        return STATUS.exists() and _status_bytes("VmPeak") - self._start > self._num_bytes // 2


def _status_bytes(name: str) -> int:
    return next(int(line.split()[1]) << 10 for line in STATUS.read_text().splitlines() if line.startswith(name))


def _is_memory(error: Exception) -> bool:
    if isinstance(error, cv2.error):
        return bool(error.code == cv2.Error.StsNoMem)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


if __name__ == "__main__":
    main(sys.argv[1:])
