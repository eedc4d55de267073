"""What the cluster that this process is part of has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import yaml

from pipeline.runner.requests import Facts, Node
from schemas.work import NodeRecord

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves the launcher file, on the head


def cluster_facts(*, is_local: bool) -> Facts:
    """The nodes that are alive, and those that an autoscaler could add. A local Ray never grows."""
    nodes = tuple(
        Node(
            num_cpus=node["Resources"].get("CPU", 0),
            num_gpus=node["Resources"].get("GPU", 0),
            labels=node.get("Labels") or {},
            name=node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    if is_local:
        return Facts(nodes)
    possible = _launcher_types(BOOTSTRAP.expanduser())
    # Without a launcher file here Ray has no way to ask which nodes an autoscaler has up its sleeve (Kubernetes'
    # among them), nor whether there is one.
    return Facts(nodes, possible, may_grow=not possible)


def node_name(node_id: str) -> str:
    """How records, numbers and logs call a Ray node: the head of its id."""
    return node_id[:8]


def node_records() -> tuple[NodeRecord, ...]:
    """The machines that are alive now."""
    return tuple(
        NodeRecord(
            name=node_name(node["NodeID"]),
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0),
            gpus=node["Resources"].get("GPU", 0),
            labels={key: value for key, value in (node.get("Labels") or {}).items() if not key.startswith("ray.io/")},
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def _launcher_types(path: Path) -> tuple[Node, ...]:
    """The node types of a launcher file; none where it is not there, or has none."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return launcher_nodes(document)
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return ()


def launcher_nodes(document: dict[str, Any]) -> tuple[Node, ...]:
    """A node of each type that a launcher file (`available_node_types`) may start."""
    types = document.get("available_node_types") or {}
    limit = document.get("max_workers", 2)  # Ray's default
    return tuple(
        Node(
            num_cpus=float((kind.get("resources") or {}).get("CPU", 0)),
            num_gpus=float((kind.get("resources") or {}).get("GPU", 0)),
            labels=kind.get("labels") or {},
            name=name,
            count=max(1, int(kind.get("max_workers", limit))),
        )
        for name, kind in types.items()
        if kind.get("max_workers", limit) > 0 or name == document.get("head_node_type")
    )
