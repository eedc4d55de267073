"""The same run elsewhere: into an object store, and on a Ray cluster that is already there. The bytes are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from trees import tree

from pipeline.synth import SynthSpec, make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CONFIG = """\
dataset: {out}
source: {{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}
clips:
  rgb16: {{frames: 16, fps: 8, resize: [128, 171]}}
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: npy, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  c3d: {{from: clips/rgb16, model: c3d, weights: "random:0", layer: conv2a}}
heads:
  actions: {{kind: lstm, features: [c3d], hidden: 16, epochs: 5}}
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=5, duration_s=2.0))
    return folder


def run(videos: Path, folder: Path, out: str, *options: str) -> None:
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(out=out, videos=videos))
    command = [sys.executable, "-m", "jobs.run", str(config), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture(scope="module")
def at_home(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("home")
    run(videos, folder, str(folder / "out"))
    return tree(str(folder / "out"))


def test_an_object_store_gets_the_same_tree(videos: Path, at_home, tmp_path: Path, s3_uri: str) -> None:
    uri = s3_uri.format("deep/dataset")
    run(videos, tmp_path, uri)
    assert tree(uri) == at_home
    run(videos, tmp_path, uri)  # and it resumes from there: nothing to do
    assert tree(uri) == at_home


def test_a_running_cluster_makes_the_same_tree(videos: Path, at_home, tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        cluster.wait_for_nodes()
        run(videos, tmp_path, str(tmp_path / "out"), "--address", cluster.address)
        run(videos, tmp_path, str(tmp_path / "beside"), "--workers", "1")  # a Ray of its own, not the one it could join
    finally:
        cluster.shutdown()
    assert tree(str(tmp_path / "out")) == tree(str(tmp_path / "beside")) == at_home
