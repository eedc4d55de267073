"""kill -9 at random moments, then the same command again: the tree must end byte-identical to an undisturbed one.

REELMILL_KILLS sets how many kills each test makes (default 3); a claim of "20 kills" is this file with 20.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from ray_head import marked
from trees import tree

from pipeline.synth import SynthSpec, make_dataset

KILLS = int(os.environ.get("REELMILL_KILLS", "3"))
CONFIG = """\
dataset: {out}
source: {{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}
units: {{videos_per_unit: 1}}
clips:
  rgb16: {{frames: 16, fps: 8, stride_s: 1.0, resize: [128, 171]}}
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: png, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "random:0", layer: conv2a}}
  maps: {{from: flow/tvl1, model: i3d_flow, weights: "random:0", layer: Conv3d_1a_7x7, dense: true, flip: true,
         preprocess: {{resize: none, crop: none}}}}
heads:
  actions: {{kind: lstm, features: [c3d], hidden: 16, epochs: 40, patience: 40}}
"""

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=6, duration_s=2.0))
    return folder


def write_config(videos: Path, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / "config.yaml"
    path.write_text(CONFIG.format(videos=videos, out=out))
    return path


def heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(config: Path, workers: int, mark: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.run", str(config), "--workers", str(workers)]
    log = (config.parent / "log").open("ab")
    # a shell that started the tests in the background has them ignore Ctrl-C, and children inherit that
    environment = {**os.environ, "REELMILL_TEST_MARK": mark}
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=heed_ctrl_c)


def kill_all(mark: str) -> int:
    """kill -9 of everything that belongs to a run, until nothing of it is left; returns how many processes died."""
    killed: set[int] = set()
    while found := marked(mark):
        for pid in found:
            killed.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    return len(killed)


def finish(config: Path, workers: int) -> None:
    process = start(config, workers, uuid.uuid4().hex)
    assert process.wait(timeout=600) == 0, (config.parent / "log").read_text()[-3000:]


def wait_for_receipts(out: Path, number: int) -> None:
    """Until the run has finished that many units, so that there is both work done and work left."""
    for _ in range(6000):
        if len(list(out.rglob("_receipts/*.json"))) >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {number} receipts after five minutes")


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """The tree of a run that nobody touched, and the seconds it took."""
    config = write_config(videos, tmp_path_factory.mktemp("undisturbed") / "out")
    began = time.monotonic()
    finish(config, 2)
    return tree(config.parent / "out"), time.monotonic() - began


def test_the_number_of_workers_changes_no_byte(videos: Path, undisturbed, tmp_path: Path) -> None:
    config = write_config(videos, tmp_path / "out")
    finish(config, 1)
    assert tree(tmp_path / "out") == undisturbed[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_everything_and_resume(videos: Path, undisturbed, tmp_path: Path, workers: int) -> None:
    expected, seconds = undisturbed
    config = write_config(videos, tmp_path / "out")
    moments = random.Random(workers)
    interrupted = 0
    for _ in range(KILLS):
        mark = uuid.uuid4().hex
        process = start(config, workers, mark)
        try:
            process.wait(timeout=moments.uniform(0.5, seconds))
        except subprocess.TimeoutExpired:
            interrupted += 1
        kill_all(mark)
        process.wait()
        if len(tree(tmp_path / "out")) >= len(
            expected
        ):  # it got through: begin anew, so that every kill has work to hit
            subprocess.run(["rm", "-rf", str(tmp_path / "out")], check=True)
    assert interrupted > 0
    finish(config, workers)
    assert tree(tmp_path / "out") == expected


def test_kill_only_the_driver_and_resume_at_once(videos: Path, undisturbed, tmp_path: Path) -> None:
    """Its workers live on for a moment and may write beside the new run: both write the same bytes."""
    config = write_config(videos, tmp_path / "out")
    for num_receipts in (3, 15):
        process = start(config, 2, uuid.uuid4().hex)
        wait_for_receipts(tmp_path / "out", num_receipts)
        process.kill()
        process.wait()
    finish(config, 2)
    assert tree(tmp_path / "out") == undisturbed[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_a_resumable_tree(videos: Path, undisturbed, tmp_path: Path, number: signal.Signals) -> None:
    config = write_config(videos, tmp_path / "out")
    mark = uuid.uuid4().hex
    process = start(config, 2, mark)
    wait_for_receipts(tmp_path / "out", 5)
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert "the same command goes on from here" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not (tmp_path / "out/_runs/lease.json").exists()
    kill_all(mark)
    finish(config, 2)
    assert tree(tmp_path / "out") == undisturbed[0]
