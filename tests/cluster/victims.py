"""Runs that are about to be hurt: a small config, and the processes of a run, found by who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

CONFIG = """\
dataset: {out}
source: {{kind: directory, videos: {videos}}}
units: {{videos_per_unit: 1}}
budget: {{failed: {budget}}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, resize: [128, 171]}}
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: npy, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "random:0", layer: conv2a}}
"""
ENDS_S = 400.0  # far more than any run here takes, also on a busy machine
DECODER = b"pipeline.video.decoder_process"
FEATURES_ACTOR = b"ActorStep"


_started: list[subprocess.Popen[bytes]] = []


def kill_left() -> None:
    """Runs that a failed test leaves behind."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


class Run:
    """`reelmill run` of a config, in a process of its own."""

    def __init__(self, config: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.out = config.parent / "out"
        self._log = config.parent / f"log-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "jobs.run", str(config), *options]
        with self._log.open("wb") as log:
            environment = {**os.environ, **(environment or {})}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _started.append(self.process)

    def ends(self) -> int:
        """Its exit status."""
        return self.process.wait(timeout=ENDS_S)

    def kill(self) -> None:
        """kill -9 of the driver; what it started finds out by itself."""
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for_receipts(self, number: int, product: str = "") -> dict[Path, int]:
        """Until so many units stand; returns when each was written."""
        wait_until(lambda: self.process.poll() is not None or len(self.receipts(product)) >= number)
        assert self.process.poll() is None, f"it ended before it could be hurt: {self.said[-3000:]}"
        return self.receipts()

    def receipts(self, product: str = "") -> dict[Path, int]:
        found = {}
        for path in (self.out / product).rglob("_receipts/*.json"):
            try:
                found[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
        return found


def write_config(folder: Path, videos: Path, *, budget: int = 0, out: Path | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(out=out or folder / "out", videos=videos, budget=budget))
    return path


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(int(ENDS_S / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("not within minutes")


def kill_one(ancestor: int, words: bytes, *, its_parent: bool = False) -> int:
    """kill -9 of a process that `ancestor` has started, directly or not, and whose command has these words, or of
    that process's parent; waits until there is one. Returns its pid."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid in descendants(ancestor) if words in _command(pid)]
        return bool(found)

    wait_until(look)
    pid = _parent(found[0]) if its_parent else found[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def descendants(ancestor: int) -> list[int]:
    parents = {int(folder.name): _parent(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    found, grown = {ancestor}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return sorted(found - {ancestor})


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
