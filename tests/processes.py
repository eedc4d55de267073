"""Processes that tests start, find and end; importable by its name in every test."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

MARK = "REELMILL_TEST_MARK"  # a variable of the environment, which children inherit
WAIT_S = 400.0  # far more than anything here takes, also on a busy machine


def free_port() -> int:
    """A port of loopback that nobody listens on; it may be taken before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], object], *, timeout_s: float = WAIT_S, every_s: float = 0.02) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain"
        time.sleep(every_s)


def heed_ctrl_c() -> None:
    """For `preexec_fn`: a shell that started the tests in the background has them ignore Ctrl-C, and children inherit
    that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def marked(mark: str) -> list[int]:
    """Every process that was started with this mark in its environment, or by one that was."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def kill_marked(mark: str) -> None:
    """kill -9 of all of them, until none is left."""
    while found := marked(mark):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def descendants(ancestor: int) -> list[int]:
    """Every process that `ancestor` has started, directly or not."""
    parents = {int(folder.name): parent(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    found, grown = {ancestor}, True
    while grown:
        more = {pid for pid, of in parents.items() if of in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {ancestor})


def parent(pid: int) -> int:
    """0 where there is no such process any more."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command(pid: int) -> bytes:
    """What it was called with; nothing where there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
