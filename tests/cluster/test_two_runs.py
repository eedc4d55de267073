"""Two runs on one dataset: one writes, the other says so and stops, or takes over from one that is gone."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from processes import wait_until
from trees import tree
from victims import Run, write_config

from pipeline.lease import BEAT_S, LEASE, TAKEOVER_S

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_of_two_started_at_the_same_instant_one_works_and_one_says_so(
    videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path, videos)
    worked, refused = sorted([Run(config, "--workers", "2") for _ in range(2)], key=Run.ends)
    assert (worked.process.returncode, refused.process.returncode) == (0, 1), refused.said
    assert "writes here since 20" in refused.said
    assert f"(process {worked.process.pid} on " in refused.said
    assert "run the same command again" in refused.said
    assert tree(worked.out) == undisturbed


def test_after_kill_9_of_a_run_elsewhere_the_next_takes_over_within_the_bound(
    videos: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path, videos)
    first = Run(config, "--workers", "2")
    first.wait_for_receipts(3)
    first.process.send_signal(signal.SIGSTOP)  # it lives, and is not through before the second has begun
    second = Run(config)
    assert second.ends() == 1
    assert f"(process {first.process.pid} on " in second.said
    first.kill()
    lease = tmp_path / "out" / LEASE
    holder = json.loads(lease.read_text())
    holder["process"] |= {"host": "elsewhere", "realm": "another boot"}  # as a third run on another host sees it
    lease.write_text(json.dumps(holder))
    third = Run(config, "--workers", "2")
    wait_until(lambda: "to see whether" in third.said)
    began_s = time.monotonic()
    wait_until(lambda: json.loads(lease.read_text())["token"] != holder["token"])
    assert time.monotonic() - began_s < TAKEOVER_S + 10 * BEAT_S  # generous: the machine may be busy
    assert third.ends() == 0, third.said[-3000:]
    assert "on elsewhere still lives" in third.said
    assert tree(third.out) == undisturbed
    assert not lease.exists()
