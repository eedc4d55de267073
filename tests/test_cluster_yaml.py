"""cluster.yaml is one that Ray takes, and what stages ask for is what its nodes have."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipeline.graph import Product
from pipeline.runner.facts import launcher_nodes
from pipeline.runner.requests import CPU, GPU, ROLE_LABEL, Facts, Node, Role, check, request_of
from schemas.pools import Pools

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
# of the provider's own documentation: (vCPUs, GPUs) of an instance, and the words that Ray's checks let pass
INSTANCES = {"m7i.2xlarge": (8, 0), "c7i.8xlarge": (32, 0), "g6.4xlarge": (16, 1)}
PROVIDER_KEYS = {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"}
NODE_KEYS = {"InstanceType", "ImageId", "IamInstanceProfile", "MetadataOptions", "BlockDeviceMappings"}
SPOT_KEYS = NODE_KEYS | {"InstanceMarketOptions"}


@pytest.fixture
def document() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


@pytest.fixture
def types(document: dict[str, Any]) -> dict[str, Any]:
    return document["available_node_types"]


def by_role(document: dict[str, Any]) -> dict[str, Node]:
    return {node.labels[ROLE_LABEL]: node for node in launcher_nodes(document)}


def test_ray_takes_it(document: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(document))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0  # one head


def test_no_key_is_one_that_ray_would_pass_on_unread(document: dict[str, Any], types: dict[str, Any]) -> None:
    assert set(document["provider"]) == PROVIDER_KEYS
    assert set(types["head"]["node_config"]) == NODE_KEYS
    assert all(set(types[name]["node_config"]) == SPOT_KEYS for name in ("cpu", "gpu"))


def test_the_head_is_kept_and_workers_are_spot(document: dict[str, Any], types: dict[str, Any]) -> None:
    spot = {name: kind["node_config"].get("InstanceMarketOptions") for name, kind in types.items()}
    assert spot == {"head": None, "cpu": {"MarketType": "spot"}, "gpu": {"MarketType": "spot"}}
    assert document["head_node_type"] == "head"


def test_resources_are_those_of_the_instances(types: dict[str, Any]) -> None:
    for name, kind in types.items():
        cpus, gpus = INSTANCES[kind["node_config"]["InstanceType"]]
        has = (0, 0) if name == "head" else (cpus, gpus)  # the head is kept for the driver
        assert (kind["resources"]["CPU"], kind["resources"].get("GPU", 0)) == has, name


def test_workers_come_and_go_within_the_limit(document: dict[str, Any], types: dict[str, Any]) -> None:
    workers = [types["cpu"], types["gpu"]]
    assert [kind["min_workers"] for kind in workers] == [0, 0]
    assert sum(kind["max_workers"] for kind in workers) == document["max_workers"]


def test_every_role_is_one_that_the_runner_knows(types: dict[str, Any]) -> None:
    roles = {name: kind["labels"] for name, kind in types.items()}
    assert roles == {role: {ROLE_LABEL: role} for role in get_args(Role)}


@pytest.mark.parametrize("kind", ["clips", "flow", "flow on cuda", "features"])
@pytest.mark.parametrize("num_features", [1, 3])
def test_what_a_stage_asks_for_fits_its_nodes_and_no_other(
    document: dict[str, Any], kind: str, num_features: int
) -> None:
    nodes = by_role(document)
    facts = Facts(nodes=(nodes["head"],), possible=tuple(nodes[role] for role in ("cpu", "gpu")))
    products = [Product("clips", "a", {}, {}, 1), Product("flow", "f", {}, {}, 1)]
    products += [Product("features", str(number), {}, {}, 1) for number in range(num_features)]
    uses_gpu = [product.kind == "features" or (product.kind, kind) == ("flow", "flow on cuda") for product in products]
    beside = list(zip(products, uses_gpu, strict=True))
    number = next(number for number, product in enumerate(products) if product.kind == kind.split()[0])
    asked, wants = beside[number]
    request = request_of(asked, uses_gpu=wants, pools=Pools(), facts=facts, beside=beside)
    check([(asked, request)], facts)  # raises where no node could ever have it
    assert [role for role, node in nodes.items() if request.fits(node)] == [GPU if wants else CPU]


def test_nodes_get_the_versions_that_the_tests_ran_with(document: dict[str, Any]) -> None:
    pinned = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)[1]
    commands = "\n".join(document["setup_commands"])
    assert re.findall(r"torch==([\d.]+)", commands) == [pinned, pinned]  # with a GPU and without
    assert "-c constraints.txt" in commands


def test_what_is_copied_is_here_and_is_all_that_an_installation_takes(document: dict[str, Any]) -> None:
    local = {path for path in document["file_mounts"].values() if not path.startswith("~")}
    assert all((ROOT / path).exists() for path in local)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= local


def test_nothing_secret_and_nothing_open(document: dict[str, Any]) -> None:
    assert not re.search(r"AKIA|aws_secret|password:|BEGIN .*KEY", TEXT, re.I)
    assert "0.0.0.0" not in TEXT
    assert set(document["provider"]["security_group"]) == {"GroupName"}  # no port beyond Ray's own rules
    starts = document["head_start_ray_commands"] + document["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
