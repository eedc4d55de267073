"""Where the work goes on a cluster of nodes that differ, and what is said where it can't go."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import wait_until
from ray.cluster_utils import Cluster

from pipeline.runner.requests import ROLE_LABEL

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CHAIN = {"clips/a": [], "features/c": ["clips/a"]}
STORE_BYTES = 100 << 20


@pytest.fixture
def cluster(fake_environment, monkeypatch) -> Iterator[Cluster]:
    """A head that makes nothing, and a node for decoding."""
    for name, value in fake_environment.items():
        monkeypatch.setenv(name, value)
    head = {"num_cpus": 0, "include_dashboard": False, "labels": {ROLE_LABEL: "head"}}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": STORE_BYTES})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, labels={ROLE_LABEL: "cpu"})
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def test_a_model_waits_for_its_node_while_clips_are_made_and_each_role_gets_its_work(fake_run, cluster) -> None:
    pools, log = {"features": {"workers": 1, "gpus": 1}}, fake_run.folder / "log"
    stages = {"clips/a": {"write": True}}
    with ThreadPoolExecutor(1) as pool:  # nodes are started by the main thread: so wants Ray's Cluster
        running = pool.submit(fake_run, CHAIN, [1] * 4, stages, pools=pools, address=cluster.address)
        wait_until(lambda: running.done() or (log.exists() and len(log.read_text().splitlines()) == 4))
        labels = {ROLE_LABEL: "gpu"}
        node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE_BYTES, labels=labels)
        first = running.result()
    gpu_nodes = {node.node_id}
    assert first.errors == {}
    assert first.said == ["features/c waits for a node with 1 GPU, which the cluster has to start"]
    assert [line.product for line in first.log] == ["clips/a"] * 4 + ["features/c"] * 4
    assert {line.node for line in first.log if line.product == "features/c"} == gpu_nodes

    (fake_run.folder / "log").unlink()
    second = fake_run(CHAIN, [1] * 6, {"clips/a": {"sleep_s": 0.2}}, address=cluster.address)  # all labelled by now
    assert (second.errors, second.said) == ({}, [])
    nodes = {path: {line.node for line in second.log if line.product == path} for path in CHAIN}
    assert nodes["features/c"] == gpu_nodes
    assert len(nodes["clips/a"]) == 1
    assert nodes["clips/a"].isdisjoint(gpu_nodes)


def test_a_dataset_that_a_node_does_not_see_stops_the_run(fake_run, cluster, tmp_path) -> None:
    """A relative path is another folder for workers, which started elsewhere: as it would be on another machine."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = fake_run(CHAIN, [1], {}, address=cluster.address, dataset="out", cwd=elsewhere)
    assert "out is a local path, and node " in run.errors[-1]
    assert "does not see this folder" in run.errors[-1]
    assert run.log == []
    assert [path.name for path in elsewhere.rglob("*") if path.is_file()] == ["manifest.parquet"]


def test_without_gpus_each_node_has_a_model(fake_run, cluster) -> None:
    """Not two on one, with a node that has none: a model takes all cores of its node."""
    for _ in range(3):
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, labels={ROLE_LABEL: "cpu"})
    cluster.wait_for_nodes()
    run = fake_run(CHAIN, [1] * 48, {"features/c": {"sleep_s": 0.5}}, address=cluster.address)
    assert run.errors == {}
    assert len({line.node for line in run.log if line.product == "features/c"}) == 4
