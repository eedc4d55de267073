"""What an export reads: the units of a product, all of them complete and none of them stale."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.shards import read_shard
from pipeline.store import Store
from pipeline.survey import survey_product
from schemas.errors import ReelmillError


def require_whole(store: Store, product: Product, units: Sequence[Unit]) -> None:
    """Raises ReelmillError unless each unit of `product` stands."""
    state = survey_product(store, product, units)
    if state.pending:
        stale = f" ({state.num_stale} of them stale)" if state.num_stale else ""
        raise ReelmillError(
            f"{product.path}: {state.pending} of its {state.num_units} units are still to be made{stale}; finish it "
            "with `reelmill run`, then export it"
        )


def index_rows(store: Store, product: Product, unit: Unit, columns: list[str]) -> list[dict[str, Any]]:
    """Rows of `_index`, in the shard's order. Raises ReelmillError where it is missing or damaged."""
    path = f"{product.path}/_index/{unit.index:06d}.parquet"
    try:
        with store.open(path) as file:
            return list(pq.read_table(file, columns=columns).to_pylist())
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, product.path, unit.index, error) from None


def shard_path(product: Product, unit: Unit) -> str:
    return f"{product.path}/{product.kind}-{unit.index:06d}.tar"


def samples(store: Store, product: Product, unit: Unit) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: bytes}) of each sample of a unit's shard, one at a time.

    Raises ReelmillError where the shard is missing or no tar.
    """
    path = shard_path(product, unit)
    try:
        with store.open(path) as file:
            yield from read_shard(file)
    except (FileNotFoundError, tarfile.TarError) as error:
        raise receipts.unreadable(path, product.path, unit.index, error) from None
