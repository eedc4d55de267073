"""How many threads a worker process uses. Set once, because the threads of a sum decide its last bits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": 2 cores' worth of time; "max 100000": no limit


def num_cores() -> int:
    """The cores that this process may use: its affinity, or less where a container's quota allows less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, _, period = CGROUP_LIMIT.read_text().partition(" ")
        return allowed if quota == "max" else max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return allowed


def use_all_cores() -> int:
    """Give the model every core of the machine, however many workers share it; returns the number of threads.

    A launcher's OMP_NUM_THREADS (Ray sets 1) does not count: the same machine must give the same floats.
    OpenCV gets one thread, since clips are decoded by threads of our own.
    """
    import cv2
    import torch

    threads = num_cores()
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    return threads


def sleep_while_waiting() -> None:
    """Threads of a model that wait for one another leave their core to others; to be called before torch is imported.

    They would turn in circles for milliseconds, several times a layer: where decoders and flow share the cores, a third
    of the model's CPU seconds. It changes no float. A user's own OMP_WAIT_POLICY counts.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def using_torch_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads for the time of the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
