"""`reelmill status` of a dataset that somebody writes to. What stands, fails and is stale: test_run.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import lease, runs
from pipeline.config import load_config
from pipeline.process import Process
from pipeline.store import Store
from schemas.work import ProductWork, RunRecord

DEAD = Process("another-host", "another boot", 1, 1)


@pytest.fixture
def status(reelmill):
    def call(config: Path, *options: str) -> str:
        ended = reelmill("status", config, *options)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return call


def test_who_is_at_it(status, head_config: Path) -> None:
    store = Store(load_config(head_config).dataset)
    assert json.loads(status(head_config, "--json"))["writer"] is None
    with lease.hold(store, what="reelmill run mine.yaml"):
        command = [sys.executable, "-m", "jobs.status", str(head_config), "--json"]  # as another process sees it
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        writer = json.loads(ended.stdout)["writer"]
        assert (writer["command"], writer["process"]) == ("reelmill run mine.yaml", "alive")
        assert "`reelmill run mine.yaml` on" in status(head_config)
    assert "reelmill run mine.yaml" not in status(head_config)


def test_one_of_another_machine_may_have_died(status, head_config: Path) -> None:
    store = Store(load_config(head_config).dataset)
    store.put(lease.LEASE, lease.Holder("t", 3, "reelmill run mine.yaml", "yesterday", DEAD).to_json())
    assert "`reelmill run mine.yaml` on another-host is at it, since yesterday, unless it died" in status(head_config)


def test_what_the_last_run_spent_and_all_together(status, head_config: Path) -> None:
    store = Store(load_config(head_config).dataset)
    assert json.loads(status(head_config, "--json"))["run"] is None
    work = ProductWork(units=3, videos=9, wall_s=100.0, held_s=200.0, busy_s=190.0, idle_s=10.0)
    for number, state in ((1, "interrupted"), (2, "running")):
        record = RunRecord(run=number, state=state, began="", wall_s=100.0, cores_s=200.0, products={"clips/a": work})
        runs.write(store, record)
    shown = status(head_config)
    assert "run 2, not ended: 1 min 40 s on 2 cores" in shown
    assert "clips/a is the bottleneck: its workers were busy 95% of the time" in shown
    assert "all 2 runs: 3 min 20 s of 2 cores; workers: clips/a 6 min 40 s" in shown
    found = json.loads(status(head_config, "--json"))
    assert (found["run"]["run"], found["spent"]["products"]["clips/a"]["units"]) == (2, 6)
