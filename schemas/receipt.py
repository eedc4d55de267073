"""Receipts and cards: what says that a unit is complete, and what says how a product was made."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from schemas.ledger import Status


class FileEntry(BaseModel):
    """One file of a unit, relative to its product folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        """What a receipt names is deleted when the unit is taken back: so it names files of its product alone."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError("it is outside of the product's folder")
        return path


class Receipt(BaseModel):
    """`_receipts/000000.json`: this unit of this product is complete, with exactly these files."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    product: str
    unit: int
    fingerprint: str
    rows: dict[Status, int]
    items: int  # clips, feature rows …
    files: tuple[FileEntry, ...]


class Card(BaseModel):
    """`_card.json`: everything needed to make a product again and to interpret it."""

    model_config = ConfigDict(extra="forbid")
    product: str
    fingerprint: str
    code_version: int
    settings: dict[str, Any]
    upstream: dict[str, str]  # product path -> its fingerprint
    details: dict[str, Any]  # what the stage itself states: resize rule, weights' sha256, precision …
    versions: dict[str, str]  # the packages whose version can change a byte
