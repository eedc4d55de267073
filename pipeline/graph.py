"""From a config to the work: products in order, each with its fingerprint, and units of manifest rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from schemas.config import Config, Features
from schemas.heads import HeadBase

ProductKind = Literal["clips", "flow", "features", "heads"]


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
    num_bytes: int = 0  # of its videos, where the manifest knows; never part of an identity


@dataclass(frozen=True, slots=True)
class Product:
    """What one stage writes: `clips/<name>`, `flow/<name>`, `features/<name>` or `heads/<name>`."""

    kind: ProductKind
    name: str
    settings: Mapping[str, Any]  # the config section, as plain JSON values
    upstream: Mapping[str, str]  # product path -> fingerprint; empty for products made from the manifest
    code_version: int
    files_sha256: str | None = None  # of what it is made from besides products: weights, annotations

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """Changes with anything that can change this product's bytes, besides the manifest rows."""
        settings = {key: value for key, value in self.settings.items() if not _is_beside_the_bytes(key, value)}
        return digest([self.kind, self.code_version, settings, dict(self.upstream), self.files_sha256])

    def unit_fingerprint(self, unit: Unit) -> str:
        """The fingerprint that the receipt of a unit carries."""
        return unit_fingerprint(self.fingerprint, unit)


def _is_beside_the_bytes(key: str, value: Any) -> bool:
    """Settings that may change and leave every byte as it is."""
    # of weights the hash counts, not the place; flow is the same to the bit on the cpu and opencv backends, and which
    # one `auto` took is on the card, where the stage looks before it goes on
    return key == "weights" or (key == "backend" and value != "cuda")


def unit_fingerprint(product_fingerprint: str, unit: Unit) -> str:
    return digest([product_fingerprint, unit.rows_sha256])


@dataclass(frozen=True, slots=True)
class Plan:
    """All products of a config in an order in which each comes after what it is made from, and the units."""

    products: tuple[Product, ...]
    units: tuple[Unit, ...]

    def product(self, path: str) -> Product:
        return next(product for product in self.products if product.path == path)

    @property
    def whole(self) -> Unit:
        """The single unit of a head, which looks at the whole manifest."""
        rows = digest([unit.rows_sha256 for unit in self.units])
        return Unit(
            index=0,
            start_row=0,
            num_rows=sum(unit.num_rows for unit in self.units),
            rows_sha256=rows,
            num_bytes=sum(unit.num_bytes for unit in self.units),
        )

    def units_of(self, product: Product) -> tuple[Unit, ...]:
        return (self.whole,) if product.kind == "heads" else self.units


def make_plan(
    config: Config,
    units: Sequence[Unit],
    *,
    code_version: Callable[[ProductKind], int],
    sha256: Callable[[str, Features | HeadBase], str | None],
) -> Plan:
    """Read the graph from the names. `code_version` gives a stage's version; `sha256(path, settings)` the hash of the
    files besides products that a features product or a head is made from: weights, annotations."""
    products: dict[str, Product] = {}

    def add(kind: ProductKind, name: str, settings: BaseModel, upstream: Sequence[str]) -> None:
        product = Product(
            kind=kind,
            name=name,
            settings=settings.model_dump(mode="json", by_alias=True),
            upstream={path: products[path].fingerprint for path in upstream},
            code_version=code_version(kind),
            files_sha256=sha256(f"{kind}/{name}", settings) if isinstance(settings, Features | HeadBase) else None,
        )
        products[product.path] = product

    for name, clips in config.clips.items():
        add("clips", name, clips, ())
    # flow after the features of clips, which take seconds where flow takes minutes
    for name, features in config.features.items():
        if features.source in products:
            add("features", name, features, (features.source,))
    for name, flow in config.flow.items():
        add("flow", name, flow, (f"clips/{flow.clips}",))
    for name, features in config.features.items():
        if f"features/{name}" not in products:
            add("features", name, features, (features.source,))
    for name, head in config.heads.items():
        add("heads", name, head, head.sources)
    return Plan(products=tuple(products.values()), units=tuple(units))
