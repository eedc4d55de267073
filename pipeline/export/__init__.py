"""Stored products in the layouts that other tools read.

A target is one module with one function and one line here. The function takes (store, plan, product), writes below
`out`, and returns what it wrote; its other settings are its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pipeline.export.denseflow import export_denseflow


class Report(Protocol):
    """What an export wrote."""

    def lines(self) -> list[str]:
        """It, in sentences for a person."""


TARGETS: dict[str, Callable[..., Report]] = {
    "denseflow": export_denseflow,
}
