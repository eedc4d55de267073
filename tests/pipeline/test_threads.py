"""Thread counts follow the machine, not the launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import threads


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1), ("", 8)],
)
def test_a_container_s_quota_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, cores: int) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    monkeypatch.setattr(threads, "CGROUP_LIMIT", limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert threads.num_cores() == cores
    monkeypatch.setattr(threads, "CGROUP_LIMIT", tmp_path / "nowhere")
    assert threads.num_cores() == 8


def test_a_launcher_s_setting_does_not_count() -> None:
    """Ray starts its workers with OMP_NUM_THREADS=1."""
    script = "import torch, cv2; from pipeline.threads import use_all_cores, num_cores; n = use_all_cores(); "
    script += "assert n == num_cores() == torch.get_num_threads(), n; assert cv2.getNumThreads() == 1"
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if threads.num_cores() > 1 else "3"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=root, check=True, timeout=120)


@pytest.mark.parametrize(("asked", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_features_worker_sleep_while_they_wait(asked: str | None, used: str) -> None:
    """OpenMP itself says on stderr, when torch loads it, what it goes by."""
    script = "from pipeline.stages import stage_module; stage_module('features'); import torch; torch.ones(9).sum()"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": asked} if asked else {})
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert f"OMP_WAIT_POLICY = '{used}'" in ended.stderr
