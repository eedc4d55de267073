"""Stored products in the layouts that other tools read.

A target is one function and one line here. The function takes (store, plan, product), or (store, plan, products) where
it joins several, writes below `out`, and returns what it wrote; its other settings are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipeline.export.denseflow import export_denseflow
from pipeline.export.features import export_features


class Report(Protocol):
    """What an export wrote."""

    def lines(self) -> list[str]:
        """It, in sentences for a person."""


@dataclass(frozen=True, slots=True)
class Target:
    export: Callable[..., Report]
    options: tuple[str, ...]  # the settings of its own
    joins: bool = False  # whether it takes several products


TARGETS: dict[str, Target] = {
    "denseflow": Target(export_denseflow, ("start_index", "frames", "per")),
    "opentad": Target(partial(export_features, target="opentad"), ("length",), joins=True),
    "actionformer": Target(partial(export_features, target="actionformer"), ("length",), joins=True),
    "npy": Target(partial(export_features, target="npy"), ("length",), joins=True),
    "mmaction2": Target(partial(export_features, target="mmaction2"), ("length",), joins=True),
}
