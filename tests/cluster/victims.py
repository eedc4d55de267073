"""Runs that are about to be hurt: two small configs, and the processes of a run, found by who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import processes
from processes import MARK, WAIT_S, wait_until

SMALL = """\
dataset: {out}
source: {{kind: directory, videos: {videos}/trimmed/videos}}
units: {{videos_per_unit: 1}}
budget: {{failed: {budget}}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, resize: [64, 80]}}
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: npy, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  net: {{from: clips/rgb16, model: small_rgb, weights: "random:0", preprocess: {{resize: none, crop: [64, 64]}}}}
"""
# each kind of product and of file: also maps, and a head
WHOLE = """\
dataset: {out}
source: {{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}
units: {{videos_per_unit: 1}}
budget: {{failed: {budget}}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, resize: [64, 80]}}
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: png, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  net: {{from: clips/rgb16, model: small_rgb, weights: "random:0", preprocess: {{resize: none, crop: [64, 64]}}}}
  maps: {{from: flow/tvl1, model: i3d_flow, weights: "random:0", layer: Conv3d_1a_7x7, dense: true, flip: true,
         preprocess: {{resize: none, crop: none}}}}
heads:
  actions: {{kind: lstm, features: [net], hidden: 16, epochs: 40, patience: 40}}
"""
NUM_VIDEOS = 8
DECODER = b"pipeline.video.decoder_process"
FEATURES_ACTOR = b"ActorStep"


_started: list[Run] = []


def kill_left() -> None:
    """Runs that a failed test leaves behind."""
    while _started:
        run = _started.pop()
        if run.process.poll() is None:
            run.kill_everything()


class Run:
    """`reelmill run` of a config, in a process of its own."""

    def __init__(self, config: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.out = config.parent / "out"
        self._log = config.parent / f"log-{time.monotonic_ns()}"
        self._mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "jobs.run", str(config), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {}), MARK: self._mark},
                stdout=log,
                stderr=log,
                preexec_fn=processes.heed_ctrl_c,
            )
        _started.append(self)

    def ends(self) -> int:
        """Its exit status."""
        return self.process.wait(timeout=WAIT_S)

    def kill(self) -> None:
        """kill -9 of the driver; what it started finds out by itself."""
        self.process.kill()
        self.process.wait()

    def kill_everything(self) -> None:
        """kill -9 of the driver and of all that it started, until nothing is left."""
        processes.kill_marked(self._mark)
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


def write_config(
    folder: Path, videos: Path, *, text: str = SMALL, budget: int = 0, out: str | Path | None = None
) -> Path:
    """`videos`: what `make_dataset` was given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(text.format(out=out or folder / "out", videos=videos, budget=budget))
    return path


def kill_one(ancestor: int, words: bytes, *, its_parent: bool = False) -> int:
    """kill -9 of a process that `ancestor` has started, directly or not, and whose command has these words, or of
    that process's parent; waits until there is one. Returns its pid."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid in processes.descendants(ancestor) if words in processes.command(pid)]
        return bool(found)

    wait_until(look)
    pid = processes.parent(found[0]) if its_parent else found[0]
    os.kill(pid, signal.SIGKILL)
    return pid
