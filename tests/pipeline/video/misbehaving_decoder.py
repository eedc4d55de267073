"""The decoder process, with videos that make it misbehave. The file's name says how; others decode as ever.

Run by test_guard.py and test_clips.py in place of pipeline.video.decoder_process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.storage import patience
from pipeline.video import decoder_process

SYS_CLONE, CLONE_VFORK = 56, 0x4000  # of x86_64
BLOCKED_S = 4
REPLY_FD = int(sys.argv[2])
sample_video = decoder_process.sample_video


def sample(source, row, spec, *, progress, **options):
    name = Path(row.uri.partition("?")[0]).stem
    clips = sample_video(source, row, spec, progress=progress, **options)
    if name in ("chatty", "crash_once", "crash_late", "spin_late", "hang_late", "noise"):
        first = next(clips)
        if name == "chatty":
            os.write(1, b"a native library says hello\n" * 10_000)
            os.write(2, b"and warns\n" * 10_000)
        yield first
    elif name != "ordinary":
        MISDEEDS[name](progress)
    if name == "crash_late" or (name == "crash_once" and not _seen(row.uri)):
        os.write(2, b"assertion failed at 0x7ffe1234: frame != NULL\n")
        ctypes.string_at(0)
    if name == "spin_late":
        spin(progress)
    if name == "hang_late":
        time.sleep(600)
    if name == "noise":
        os.write(REPLY_FD, b"\xff" * 100_000)
        time.sleep(600)
    return (yield from clips)


def _seen(uri: str) -> bool:
    marker = Path(uri).with_suffix(".seen")
    seen = marker.exists()
    marker.touch()
    return seen


def spin(progress):
    while True:  # holds the interpreter, and gives signs of life that are no progress
        progress(1)


def crawl(progress):
    count = 0
    while True:
        count += 1
        progress(count)
        time.sleep(0.02)


def hog(progress):
    hoard = []
    while True:
        progress(len(hoard) + 1)
        hoard.append(b"x" * 10_000_000)


def blocked(progress):
    """What a mount whose server is away does: the kernel holds the process, here until its child ends."""
    child = ctypes.PyDLL(None).syscall(SYS_CLONE, ctypes.c_ulong(CLONE_VFORK | signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        time.sleep(BLOCKED_S)
        os._exit(0)


MISDEEDS = {
    "blocked": blocked,
    "spin": spin,
    "hang": lambda progress: time.sleep(600),
    "crawl": crawl,
    "hog": hog,
    "segfault": lambda progress: ctypes.string_at(0),
    "abort": lambda progress: os.abort(),
    "exit": lambda progress: os._exit(7),
    "surprise": lambda progress: {}["0x7ffe1234"],
}

if __name__ == "__main__":
    decoder_process.sample_video = sample
    patience.QUIET_S = 0.5
    decoder_process.main(sys.argv[1:])
