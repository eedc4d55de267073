"""The parent's side of the decoder process: limits, kills, restarts.

    with Decoder(limits) as decoder:
        for row in rows:
            clips = decoder.clips(row, spec)       # a generator of EncodedClip that returns an Outcome

A decoder that hangs, spins, crashes or eats memory costs its own video: the process is killed and the next video
gets a new one. Clips stream through a pipe, so this side holds one clip at a time. Imports neither av nor cv2.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.process import waits_for_disk
from pipeline.storage import patience
from pipeline.video import wire
from pipeline.video.errors import VideoError
from pipeline.video.sample import Grid
from pipeline.video.time_left import TimeLeft, limit_sentence
from pipeline.video.wire import EncodedClip, Outcome
from schemas.config import Clips, Limits
from schemas.errors import ReelmillError, StorageError
from schemas.video_row import VideoRow

START_S = 120.0  # a cold machine may read the libraries from a slow disk
REAP_S = 5.0
PIPE_BYTES = 1 << 20
STDERR_BYTES = 4096

# Native libraries leak a little, and a damaged file may leave a damaged heap behind.
VIDEOS_PER_PROCESS = 256
FAILURES_PER_PROCESS = 16

# A failure that may come from outside the video (somebody's kill, what earlier videos left in memory). Only a
# second one, in a new process, is the video's own.
TRY_AGAIN = frozenset({"crashed", "out_of_memory"})


class Decoder:
    """Decodes videos in a process of its own, one at a time, within limits. Not for use by two threads at once."""

    def __init__(self, limits: Limits, *, module: str = "pipeline.video.decoder_process") -> None:
        self._limits = limits
        self._module = module
        self._process: _Process | None = None
        self._busy = False
        self._num_videos = 0
        self._num_failures = 0

    @property
    def pid(self) -> int | None:
        """The decoder process's id, or None while there is none."""
        return self._process.pid if self._process else None

    def clips(self, row: VideoRow, spec: Clips, *, grid: Grid | None = None) -> Generator[EncodedClip, None, Outcome]:
        """The clips of one video, in time order; the generator's return value is the Outcome.

        With `grid` their members are the gray frames of those grid times (see pipeline.video.encode.gray_members).
        Raises VideoError with the decoder's own reasons, or "stalled", "too_slow", "crashed", "out_of_memory";
        clips that came before are then not to be used. Raises ReelmillError when no decoder process can start, and
        StorageError where the storage that the video lies on stays away: nothing is known of the video then.
        """
        process = self._ready()
        self._num_videos += 1
        self._busy = True  # what is under way when the caller leaves early would reach the next video
        try:
            outcome = yield from _talk(process, row, spec, grid, self._limits)
            self._busy = False
            return outcome
        except VideoError as error:
            self._num_failures += 1
            self._busy = error.reason in _LIMIT_REASONS
            raise
        finally:
            if self._busy:
                self.close()

    def close(self) -> None:
        """End the decoder process, if there is one."""
        process, self._process = self._process, None
        self._busy = False
        if process is not None:
            process.kill()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self) -> _Process:
        """The process, new where there is none, where it died in its sleep, or where it has served its time."""
        assert not self._busy, "a Decoder reads one video at a time: exhaust or close the last generator first"
        worn = self._num_videos >= VIDEOS_PER_PROCESS or self._num_failures >= FAILURES_PER_PROCESS
        if self._process is not None and (worn or not self._process.is_alive()):
            self.close()
        if self._process is None:
            self._num_videos = self._num_failures = 0
            self._process = _Process(self._module, memory_bytes=int(self._limits.memory_gb * 1e9))
        return self._process


_LIMIT_REASONS = frozenset({"stalled", "too_slow", "crashed", "out_of_memory"})  # after these the process is done for


def _talk(
    process: _Process, row: VideoRow, spec: Clips, grid: Grid | None, limits: Limits
) -> Generator[EncodedClip, None, Outcome]:
    """Send one video to the process and read what it answers."""
    clock = TimeLeft(limits, where=row.uri.partition("?")[0])
    try:
        request = {"row": asdict(row), "spec": spec.model_dump(mode="json"), "grid": grid and asdict(grid)}
        process.send(request, clock)
        while True:
            header, blobs = process.receive(clock)
            clock.advanced()
            kind = header.pop("kind")
            if kind == "clip":
                yield EncodedClip.from_message(header, blobs)
            elif kind == "done":
                return Outcome(**header)
            elif kind == "storage":
                clock.waits_for_storage(header["is_asked"])
            elif kind == "wait":
                patience.tell(str(header["sentence"]), is_away=bool(header["is_away"]))
            elif kind == "error" and header["reason"] == "storage":
                raise StorageError(header["message"])
            elif kind == "error":
                raise _error(header, limits)
    except _DiedError:
        raise VideoError("crashed", process.last_words()) from None
    except (ValueError, KeyError, TypeError, AttributeError):  # native code wrote over its memory, or on our pipe
        raise VideoError("crashed", "the decoder's answer makes no sense") from None


def _error(header: dict[str, Any], limits: Limits) -> VideoError:
    error = VideoError(header["reason"], _timeless(header["message"]) or limit_sentence(header["reason"], limits))
    error.num_bytes_read = int(header.get("num_bytes_read", 0))
    return error


class _DiedError(Exception):
    """The process closed its pipe."""


class _Process:
    """One decoder process and its three pipes."""

    def __init__(self, module: str, *, memory_bytes: int) -> None:
        request_read, self._request = os.pipe()
        self._reply, reply_write = os.pipe()
        self._stderr, stderr_write = os.pipe()
        self._tail = b""
        for fd in (self._request, self._reply, self._stderr):
            os.set_blocking(fd, False)
        _widen(reply_write)
        # the kernel's parent-death signal follows the thread that starts the process: ask for it from one that stays
        by_signal = int(threading.current_thread() is threading.main_thread())
        numbers = (request_read, reply_write, os.getpid(), memory_bytes, by_signal)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *(str(number) for number in numbers)],
                stdin=subprocess.DEVNULL,
                stdout=stderr_write,
                stderr=stderr_write,
                pass_fds=(request_read, reply_write),
                env=_environment(),
            )
        except OSError as error:
            self._close_pipes()
            raise ReelmillError(f"can't start a decoder process: {error.strerror or error}") from None
        finally:
            for fd in (request_read, reply_write, stderr_write):
                os.close(fd)
        self._wait_until_ready()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def send(self, header: dict[str, Any], clock: TimeLeft) -> None:
        data = memoryview(wire.pack(header))
        while data:
            self._wait(self._request, select.POLLOUT, clock)
            try:
                data = data[os.write(self._request, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise _DiedError from None

    def receive(self, clock: TimeLeft) -> tuple[dict[str, Any], list[bytes]]:
        return wire.read(lambda num_bytes: self._take(num_bytes, clock))

    def last_words(self) -> str:
        """How a process that closed its pipe ended, with the last line it printed."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=REAP_S)
        self._drain_stderr()
        status = self._popen.returncode
        if status is None:
            how = "the decoder closed its pipe"
        elif status < 0:
            how = f"the decoder crashed with {_signal_name(-status)}"
        else:
            how = f"the decoder ended with status {status}"
        lines = [line.strip() for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        return f"{how}: {_timeless(lines[-1])}" if lines else how

    def kill(self) -> None:
        """End the process and free its pipes. One that is stuck in the kernel is reaped later, by subprocess."""
        if self._popen.poll() is None:
            self._popen.kill()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=REAP_S)
        self._close_pipes()

    def _wait_until_ready(self) -> None:
        clock = TimeLeft(Limits(stall_s=START_S, video_s=START_S), where=sys.executable)
        try:
            header, _ = self.receive(clock)
            assert header["kind"] == "ready"
        except (_DiedError, VideoError, ValueError):
            words = self.last_words()
            self.kill()
            raise ReelmillError(f"the decoder process can't start: {words}") from None
        except StorageError:
            self.kill()
            raise

    def _take(self, num_bytes: int, clock: TimeLeft) -> bytes:
        buffer = bytearray(num_bytes)
        view = memoryview(buffer)
        while view:
            self._wait(self._reply, select.POLLIN, clock)
            try:
                num_read = os.readv(self._reply, [view])
            except BlockingIOError:
                continue
            if num_read == 0:
                raise _DiedError
            view = view[num_read:]
        return bytes(buffer)

    def _wait(self, fd: int, event: int, clock: TimeLeft) -> None:
        """Wait until `fd` is ready or hung up, and keep stderr flowing meanwhile."""
        poll = select.poll()
        poll.register(fd, event)
        poll.register(self._stderr, select.POLLIN)
        while True:
            slice_s = clock.slice_s()
            started_s = time.monotonic()
            ready = dict(poll.poll(slice_s * 1000))
            clock.waited(time.monotonic() - started_s, for_disk=not ready and waits_for_disk(self.pid))
            if self._stderr in ready and not self._drain_stderr():
                poll.unregister(self._stderr)  # closed, by a process that is ending
            if fd in ready:
                return

    def _drain_stderr(self) -> bool:
        """Keep the end of what the process printed; False when it can print no more."""
        while True:
            try:
                data = os.read(self._stderr, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._tail = (self._tail + data)[-STDERR_BYTES:]

    def _close_pipes(self) -> None:
        for fd in (self._request, self._reply, self._stderr):
            os.close(fd)


def _environment() -> dict[str, str]:
    """The child finds what this process finds, and starts no thread pools it has no use for."""
    here = str(Path(__file__).resolve().parents[2])
    paths = dict.fromkeys([here, *(str(Path(entry).resolve()) for entry in sys.path)])
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def _widen(fd: int) -> None:
    """A clip in few switches between the two processes, where the system allows."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # over the user's share of pipe memory
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _timeless(line: str) -> str:
    """A line for the ledger, without the addresses that differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]+", "0x…", line)[:300]


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
