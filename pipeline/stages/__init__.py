"""Stages: each a pure function of (unit, product, store) that writes one unit and returns its receipt.

A stage module offers

    describe(product, store) -> dict                   what the card says beyond the settings
    open_stage(product, store, limits) -> Stage        takes what is costly to hold: a decoder, a model
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Protocol

from pipeline.graph import Product, ProductKind, Unit
from pipeline.meter import Meter
from pipeline.store import Store
from pipeline.threads import sleep_while_waiting
from schemas.receipt import Card, Receipt

# imported on first use: the features stage needs torch, and the clips stage needs av
STAGES: dict[ProductKind, str] = {
    "clips": "pipeline.stages.clips",
    "flow": "pipeline.stages.flow",
    "features": "pipeline.stages.features",
    "heads": "pipeline.training.head",
}
# raised whenever a stage's output bytes change; kept here because planning must not import torch or av
CODE_VERSIONS: dict[ProductKind, int] = {"clips": 2, "flow": 1, "features": 2, "heads": 2}
# the packages whose version can change a product's bytes
PACKAGES: dict[ProductKind, tuple[str, ...]] = {
    "clips": ("av", "opencv-contrib-python-headless", "pyarrow"),
    "flow": ("av", "opencv-contrib-python-headless", "numba", "numpy", "pyarrow"),
    "features": ("torch", "av", "opencv-contrib-python-headless", "pyarrow"),
    "heads": ("torch", "numpy", "matplotlib", "safetensors", "pyarrow"),
}


class Stage(Protocol):
    """A stage held open by a worker. Its meter knows what the last unit cost."""

    meter: Meter

    def __call__(self, unit: Unit) -> Receipt: ...

    def close(self) -> None: ...


def stage_module(kind: ProductKind) -> ModuleType:
    if kind == "features":
        sleep_while_waiting()  # now: its module imports torch
    return import_module(STAGES[kind])


def card_of(product: Product, store: Store) -> Card:
    """The card of a product: its settings, what its stage states, and the versions that can change a byte."""
    return Card(
        product=product.path,
        fingerprint=product.fingerprint,
        code_version=product.code_version,
        settings=dict(product.settings),
        upstream=dict(product.upstream),
        details=stage_module(product.kind).describe(product, store),
        versions=package_versions(product.kind),
    )


def package_versions(kind: ProductKind) -> dict[str, str]:
    """The versions, here and now, of the packages that can change a product's bytes and are installed."""
    found = {}
    for name in PACKAGES[kind]:
        with suppress(PackageNotFoundError):  # a GPU node does without av unless clips are mp4
            found[name] = version(name)
    return found
