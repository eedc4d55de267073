"""kill -9 at random moments, then the same command again: the tree must end byte-identical to an undisturbed one.

REELMILL_KILLS sets how many kills are made (default 3); a claim of "20 kills" is this file with 20.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from trees import tree
from victims import WHOLE, Run, write_config

KILLS = int(os.environ.get("REELMILL_KILLS", "3"))

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(3600)]


def test_kill_everything_and_resume(videos: Path, undisturbed_whole: dict[str, str], tmp_path: Path) -> None:
    """And each time with another number of workers. A moment is drawn by how far the run has come, so that the kills
    spread over all of it on every machine."""
    config = write_config(tmp_path, videos, text=WHOLE)
    moments = random.Random(1)
    total = sum("/_receipts/" in path for path in undisturbed_whole)
    for attempt, number in enumerate(sorted(moments.choices(range(total), k=KILLS))):
        run = Run(config, "--workers", str(1 + attempt % 2))
        run.wait_for_receipts(number)
        time.sleep(moments.uniform(0, 0.5))
        run.kill_everything()
        assert run.process.returncode == -signal.SIGKILL
    run = Run(config, "--workers", "2")
    assert run.ends() == 0, run.said[-3000:]
    assert tree(run.out) == undisturbed_whole


def test_kill_only_the_driver_and_resume_at_once(videos: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """Its workers live on for a moment and may write beside the new run: both write the same bytes."""
    config = write_config(tmp_path, videos)
    first = Run(config, "--workers", "2")
    first.wait_for_receipts(9)
    first.kill()
    again = Run(config, "--workers", "2")
    assert again.ends() == 0, again.said[-3000:]
    assert tree(again.out) == undisturbed


def test_a_stop_leaves_a_resumable_tree(videos: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    config = write_config(tmp_path, videos)
    for number in (signal.SIGINT, signal.SIGTERM):
        run = Run(config, "--workers", "2")
        run.wait_for_receipts(len(run.receipts()) + 3)
        run.process.send_signal(number)
        assert run.process.wait(timeout=60) == 130
        assert "the same command goes on from here" in run.said
        assert "Traceback" not in run.said
        assert not (run.out / "_runs/lease.json").exists()
        run.kill_everything()
    again = Run(config, "--workers", "2")
    assert again.ends() == 0, again.said[-3000:]
    assert tree(again.out) == undisturbed
