"""From a config to the work: products in order, each with its fingerprint, and units of manifest rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ProductKind = Literal["clips", "features", "heads"]


def digest(value: object) -> str:
    """sha256 over a canonical JSON form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Unit:
    """A fixed, contiguous run of manifest rows. This is the row that travels through Ray."""

    index: int
    start_row: int
    num_rows: int
    rows_sha256: str  # identity of the manifest rows in it


@dataclass(frozen=True, slots=True)
class Product:
    """What one stage writes: `clips/<name>`, `features/<name>` or `heads/<name>`."""

    kind: ProductKind
    name: str
    settings: Mapping[str, Any]  # the config section, as plain JSON values
    upstream: Mapping[str, str]  # product path -> fingerprint; empty for products made from the manifest
    code_version: int
    weights_sha256: str | None = None

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """Changes with anything that can change this product's bytes, besides the manifest rows."""
        return digest([self.kind, self.code_version, dict(self.settings), dict(self.upstream), self.weights_sha256])

    def unit_fingerprint(self, unit: Unit) -> str:
        """The fingerprint that the receipt of a unit carries."""
        return unit_fingerprint(self.fingerprint, unit)


def unit_fingerprint(product_fingerprint: str, unit: Unit) -> str:
    return digest([product_fingerprint, unit.rows_sha256])
