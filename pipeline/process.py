"""What the system knows of a process: which one it is, so that another can tell whether it still lives, and what it
does with its time."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fate = Literal["alive", "gone", "unknown"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_DEAD_STATES = "ZX"  # killed, and not yet waited for by its parent


@dataclass(frozen=True, slots=True)
class Process:
    """A process as others may know it. `began` tells it from a later one that got the same pid."""

    host: str
    realm: str  # where pids mean the same processes: this boot of this machine, and the pid namespace; "" unknown
    pid: int
    began: int  # clock ticks after boot; 0 unknown


def this_process() -> Process:
    pid = os.getpid()
    return Process(socket.gethostname(), _realm(), pid, _began(pid) or 0)


def fate(process: Process) -> Fate:
    """What became of a process, as far as this machine can tell: nothing is known of those of other machines,
    or of other containers."""
    if not process.realm or (process.host, process.realm) != (socket.gethostname(), _realm()):
        return "unknown"
    began = _began(process.pid)
    if began is None:
        return _fate_of_hidden(process.pid)
    return "alive" if began == process.began else "gone"


def _fate_of_hidden(pid: int) -> Fate:
    """Some machines hide the processes of other users; one that may not be signalled is there."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "unknown"
    except OSError:
        return "gone"
    return "gone"  # there, but no longer alive


def _realm() -> str:
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:  # not Linux, or a sandbox that hides it
        return ""


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process until now, or until it died; 0 where none is seen."""
    fields = _stat(pid)
    return 0.0 if fields is None else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waits_for_disk(pid: int) -> bool:
    """Whether the kernel holds a process until a disk answers. A network mount whose server is away does so for as long
    as that takes."""
    fields = _stat(pid)
    return fields is not None and fields[0] == "D"


def _began(pid: int) -> int | None:
    """When a process began, in clock ticks after boot; None where no living process is seen."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in _DEAD_STATES else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None where no process is seen."""
    try:
        # "PID (NAME) STATE PPID …": the name may hold anything
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields or None
