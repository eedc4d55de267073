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
