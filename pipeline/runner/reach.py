"""Whether every node that will work sees what the run is made of: a dataset on local paths, weights, videos."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.backbones import weights_sha256
from pipeline.graph import Product, Unit
from pipeline.runner.requests import Facts, Request
from pipeline.store import Store
from pipeline.units import unit_table
from schemas.config import Features
from schemas.errors import UsageError
from schemas.work import RUNS_FOLDER

PROBE_TIMEOUT_S = 120.0


@ray.remote(num_cpus=0, max_retries=1)
def _missing(store: Store | None, token: str, files: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the dataset is another one here, and which files are not here."""
    elsewhere = store is not None and store.read_or_none(f"{RUNS_FOLDER}/{token}") is None
    return elsewhere, [path for path in files if not Path(path).exists()]


def check_reach(
    store: Store, requests: Sequence[tuple[Product, Request]], facts: Facts, pending: Sequence[Unit]
) -> None:
    """Ask each node that will work, where there is more than one. Raises UsageError, a sentence, for the first that
    has another folder under the dataset's path, or lacks a file. Nodes that join later are not asked: of what they
    lack see `lacking`."""
    workers = [node for node in facts.nodes if any(request.fits(node) for _, request in requests)]
    if len(facts.nodes) < 2:
        return
    token = f"reach-{uuid.uuid4().hex}"
    files = [*_weights([product for product, _ in requests]), *_first_video(store, pending)]
    if store.is_local:
        store.put(f"{RUNS_FOLDER}/{token}", b"")
    try:
        answers = {
            node.name: _missing.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.name, soft=False)
            ).remote(store if store.is_local else None, token, files)
            for node in workers
        }
        for name, answer in answers.items():
            with contextlib.suppress(ray.exceptions.RayError):  # a node that just went away makes no unit either
                _explain(store, _address(name), *ray.get(answer, timeout=PROBE_TIMEOUT_S))
    finally:
        if store.is_local:
            store.delete(f"{RUNS_FOLDER}/{token}")


def _explain(store: Store, node: str, elsewhere: bool, missing: Sequence[str]) -> None:
    if elsewhere:
        raise UsageError(
            f"{store.uri} is a local path, and node {node} does not see this folder: its workers would write "
            "elsewhere; put the dataset on a folder that all nodes share, or on an object store (s3://…)"
        )
    if missing:
        raise UsageError(
            f"{missing[0]} is not on node {node}: workers there could not read it; put it where all nodes see it"
        )


def _weights(products: Sequence[Product]) -> list[str]:
    """The weights that are files here, by the path that workers will open; other names (random:SEED, a package's) are
    the stages' own matter."""
    named = [product.settings.get("weights") for product in products]
    named += [(product.settings.get("preprocess") or {}).get("mean") for product in products]  # or a mean volume
    return sorted({path for path in named if isinstance(path, str) and Path(path).is_file()})


def lacking(product: Product) -> str:
    """What this machine lacks of the files that a product's model is loaded from, or has otherwise than where the run
    was started; "" for nothing. Raises StorageError where they lie on storage that stays away."""
    if product.kind != "features" or product.files_sha256 is None:
        return ""
    settings = Features.model_validate(product.settings)
    try:
        found = weights_sha256(settings.model, settings.weights, preprocess=settings.preprocess)
    except UsageError as error:
        return str(error)
    if found == product.files_sha256:
        return ""
    return f"{settings.weights} is another file there than where the run was started"


def _first_video(store: Store, pending: Sequence[Unit]) -> list[str]:
    """One video, where videos are on local paths: a cluster that lacks them would fail every row."""
    for unit in pending[:1]:
        uri = unit_table(store, unit)["uri"][0].as_py()
        return [uri] if "://" not in uri and Path(uri).exists() else []
    return []


def _address(node_id: str) -> str:
    return next((str(node["NodeManagerAddress"]) for node in ray.nodes() if node["NodeID"] == node_id), node_id)
