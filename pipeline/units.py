"""The manifest on storage, and its division into units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.graph import Unit
from pipeline.store import Store
from schemas.errors import ReelmillError
from schemas.manifest import VideoRow

MANIFEST = "manifest.parquet"
LABELS = "labels.json"  # beside the manifest: the label names, by label id
SOURCE_KEY = b"reelmill.source"  # in the manifest's schema metadata
LABELS_KEY = b"reelmill.labels"
ROWS_PER_GROUP = 8192  # a worker that needs one unit reads one or two row groups, not the whole manifest


def write_manifest(store: Store, table: pa.Table) -> None:
    """Write `manifest.parquet` atomically. Equal tables give equal bytes."""
    with store.stage(MANIFEST) as staged:
        pq.write_table(table, pa.PythonFile(staged.file, mode="w"), compression="zstd", row_group_size=ROWS_PER_GROUP)
        staged.publish()


def read_manifest(store: Store, columns: list[str] | None = None) -> pa.Table:
    """The whole manifest. Raises ReelmillError where there is none."""
    try:
        with store.open(MANIFEST) as file:
            return pq.read_table(file, columns=columns)
    except (FileNotFoundError, NotADirectoryError):
        raise ReelmillError(f"{store.uri}: no manifest here; make one with `reelmill index`") from None
    except pa.ArrowInvalid as error:
        raise ReelmillError(f"{store.uri}/{MANIFEST} is damaged ({error}); `reelmill index` makes it anew") from None


def read_labels(store: Store) -> list[str]:
    """The label names by label id; empty where there are none. They ride in the manifest, so that names and ids agree
    at any moment; labels.json is a copy for people."""
    with store.open(MANIFEST) as file:
        metadata = pq.read_schema(file).metadata or {}
    return list(json.loads(metadata.get(LABELS_KEY, b"[]")))


def manifest_source(store: Store) -> str | None:
    """The source section that the manifest was made from, as JSON; None where there is no sound manifest."""
    try:
        with store.open(MANIFEST) as file:
            metadata = pq.read_schema(file).metadata or {}
    except (FileNotFoundError, NotADirectoryError, pa.ArrowInvalid):
        return None
    return metadata.get(SOURCE_KEY, b"").decode()


def plan_units(manifest: pa.Table, videos_per_unit: int, *, bytes_per_unit: int | None = None) -> list[Unit]:
    """Cut the manifest into units of `videos_per_unit` rows, or fewer where their videos would hold more than
    `bytes_per_unit` together. A row of unknown size counts nothing; a row that is larger by itself is a unit."""
    sizes = _sizes(manifest)
    before = np.concatenate([[0], np.cumsum(sizes)])  # bytes of all rows before each row
    starts = np.arange(manifest.num_rows)
    stops = np.minimum(starts + videos_per_unit, manifest.num_rows)
    if bytes_per_unit is not None:
        fitting = np.searchsorted(before, before[:-1] + bytes_per_unit, side="right") - 1
        stops = np.clip(fitting, starts + 1, stops)
    return cut_units(manifest, _hops(stops.tolist()))


def _hops(stops: list[int]) -> list[int]:
    """From where a unit that starts at each row would stop to the sizes of the units that follow from row 0."""
    counts, start = [], 0
    while start < len(stops):
        counts.append(stops[start] - start)
        start = stops[start]
    return counts


def cut_units(manifest: pa.Table, counts: Sequence[int]) -> list[Unit]:
    """Units of so many rows each, one after the other from the first row on."""
    offsets, text = _row_texts(manifest)
    before = np.concatenate([[0], np.cumsum(_sizes(manifest))]).tolist()
    units, start = [], 0
    for index, count in enumerate(counts):
        stop = start + count
        rows = hashlib.sha256(text[offsets[start] : offsets[stop]]).hexdigest()
        units.append(Unit(index, start, count, rows, num_bytes=before[stop] - before[start]))
        start = stop
    return units


def _sizes(manifest: pa.Table) -> np.ndarray:
    """The bytes of each row's video, int64; 0 where the manifest does not know."""
    if "bytes" not in manifest.schema.names:
        return np.zeros(manifest.num_rows, np.int64)
    column = pc.fill_null(manifest["bytes"], 0).to_numpy().astype(np.int64)
    return np.maximum(column, 0)


def _row_texts(manifest: pa.Table) -> tuple[Any, memoryview]:
    """All columns of each row as one text, rows back to back: (row offsets, bytes)."""
    columns = [pc.fill_null(_bytes(manifest[field.name]), b"\x00") for field in manifest.schema]
    ends = pa.scalar(b"\n", pa.large_binary()), pa.scalar(b"\x1f", pa.large_binary())
    rows = pc.binary_join_element_wise(*columns, *ends).combine_chunks()
    if isinstance(rows, pa.ChunkedArray):
        rows = pa.concat_arrays(rows.chunks) if rows.num_chunks else pa.array([], pa.large_binary())
    _, offsets, data = rows.buffers()
    view = memoryview(data) if data is not None else memoryview(b"")
    return memoryview(offsets).cast("q") if offsets is not None else [0], view


def _bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each value as bytes: plain ones and lists of them as their text, what a user's own column holds otherwise (bytes,
    structs, maps) as it is or as Python writes it."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.large_binary())
    try:
        if pa.types.is_list(kind):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "\x1e")
        return column.cast(pa.large_string()).cast(pa.large_binary())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        values = [None if value is None else repr(value).encode() for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.large_binary())])


@lru_cache(maxsize=2)
def _parquet_file(uri: str, identity: tuple[int, int]) -> pq.ParquetFile:
    return pq.ParquetFile(Store(uri).open(MANIFEST))


@lru_cache(maxsize=4)
def _row_group(uri: str, identity: tuple[int, int], group: int) -> pa.Table:
    return _parquet_file(uri, identity).read_row_group(group)


def unit_table(store: Store, unit: Unit) -> pa.Table:
    """The manifest rows of a unit, reading only the row groups it touches."""
    identity = store.identity(MANIFEST)  # a worker outlives a re-index
    first = unit.start_row // ROWS_PER_GROUP
    last = (unit.start_row + unit.num_rows - 1) // ROWS_PER_GROUP
    groups = [_row_group(store.uri, identity, group) for group in range(first, last + 1)]
    return pa.concat_tables(groups).slice(unit.start_row - first * ROWS_PER_GROUP, unit.num_rows)


def unit_rows(store: Store, unit: Unit) -> list[VideoRow]:
    """The manifest rows of a unit, in manifest order. Raises ReelmillError when they are not the planned ones."""
    rows = unit_table(store, unit)
    if not _are_planned(rows, unit):
        # two manifests of one size and one second, which is how fine a bucket's clock is, look the same
        _parquet_file.cache_clear()
        _row_group.cache_clear()
        rows = unit_table(store, unit)
    if not _are_planned(rows, unit):
        raise ReelmillError(f"{store.uri}/{MANIFEST} was made anew while this run used it; run the same command again")
    return [VideoRow.from_dict(row) for row in rows.to_pylist()]


def _are_planned(rows: pa.Table, unit: Unit) -> bool:
    return rows.num_rows == unit.num_rows and cut_units(rows, [unit.num_rows])[0].rows_sha256 == unit.rows_sha256
