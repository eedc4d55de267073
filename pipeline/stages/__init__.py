"""Stages: each a pure function of (unit, product, store) that writes one unit and returns its receipt.

A stage module offers

    CODE_VERSION: int                                  raised whenever the stage's bytes change
    describe(product, store) -> dict                   what the card says beyond the settings
    open_stage(product, store, limits) -> Stage        takes what is costly to hold: a decoder, a model
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Protocol

from pipeline.graph import ProductKind, Unit
from schemas.receipt import Receipt

# imported on first use: the features stage needs torch, and the clips stage needs av
STAGES: dict[ProductKind, str] = {
    "clips": "pipeline.stages.clips",
    "features": "pipeline.stages.features",
}


class Stage(Protocol):
    """A stage held open by a worker."""

    def __call__(self, unit: Unit) -> Receipt: ...

    def close(self) -> None: ...


def stage_module(kind: ProductKind) -> ModuleType:
    return import_module(STAGES[kind])
