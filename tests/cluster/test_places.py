"""The same run elsewhere: into an object store, and on a Ray cluster that is already there. The bytes are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from trees import tree
from victims import WHOLE, Run, write_config

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def run(config: Path, *options: str) -> None:
    ended = Run(config, *options)
    assert ended.ends() == 0, ended.said[-3000:]


def test_an_object_store_gets_the_same_tree(
    videos: Path, undisturbed_whole: dict[str, str], tmp_path: Path, s3_uri: str
) -> None:
    uri = s3_uri.format("deep/dataset")
    config = write_config(tmp_path, videos, text=WHOLE, out=uri)
    run(config)
    assert tree(uri) == undisturbed_whole


def test_neither_a_running_cluster_nor_the_number_of_workers_changes_a_byte(
    videos: Path, undisturbed_whole: dict[str, str], tmp_path: Path
) -> None:
    there, here = (write_config(tmp_path / name, videos, text=WHOLE) for name in ("there", "here"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        cluster.wait_for_nodes()
        run(there, "--address", cluster.address)
        run(here, "--workers", "1")  # a Ray of its own, not the one it could join
    finally:
        cluster.shutdown()
    assert tree(there.parent / "out") == tree(here.parent / "out") == undisturbed_whole
