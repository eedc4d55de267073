import yaml

from pipeline.runner.facts import _launcher_types, launcher_nodes
from pipeline.runner.requests import Node

LAUNCHER = """\
max_workers: 40
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, labels: {reelmill-role: head}, max_workers: 0, node_config: {}}
  cpu: {resources: {CPU: 16}, labels: {reelmill-role: cpu}, min_workers: 0, max_workers: 32, node_config: {}}
  gpu: {resources: {CPU: 8, GPU: 1}, labels: {reelmill-role: gpu}, node_config: {}}
  retired: {resources: {CPU: 8}, max_workers: 0, node_config: {}}
"""


def test_the_node_types_of_a_launcher_file() -> None:
    assert launcher_nodes(yaml.safe_load(LAUNCHER)) == (
        Node(0, 0, {"reelmill-role": "head"}, "head", count=1),
        Node(16, 0, {"reelmill-role": "cpu"}, "cpu", count=32),
        Node(8, 1, {"reelmill-role": "gpu"}, "gpu", count=40),
    )


def test_a_launcher_file_that_is_not_there_or_of_another_kind_tells_nothing(tmp_path) -> None:
    assert _launcher_types(tmp_path / "none.yaml") == ()
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert _launcher_types(tmp_path / "list.yaml") == ()
    (tmp_path / "premise.yaml").write_text("cluster_name: a\nprovider: {type: local}\n")
    assert _launcher_types(tmp_path / "premise.yaml") == ()
