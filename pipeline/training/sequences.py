"""Stored features as sequences: for each video its clips in time order, several products side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.graph import Unit, unit_fingerprint
from pipeline.receipts import read_ledger, require
from pipeline.store import Store
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt

VIEW = "center"  # the one view of a clip that heads are trained on

NO_WINDOWS = np.zeros((0, 3))

Ledgers = dict[str, list[LedgerRow]]  # product path -> one row per manifest row


@dataclass(frozen=True)
class Sequences:
    """Videos as runs of rows in one matrix: video v has the clips matrix[offsets[v]:offsets[v + 1]], by start_s."""

    video_ids: tuple[str, ...]
    matrix: NDArray[np.float32]  # (all clips, D)
    offsets: NDArray[np.int64]  # (videos + 1,)
    blocks: tuple[int, ...]  # D of each feature product, in the order of the config; their sum is D
    windows: NDArray[np.float64]  # (all clips, 3) start_s, center_s, end_s on the source's clock

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of clips of each video."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class _Part:
    """The wanted rows of one unit of one product, ordered by (video, start_s)."""

    videos: NDArray[np.int64]  # (rows,) place of the video in the unit
    windows: NDArray[np.float64]  # (rows, 3) start_s, center_s, end_s
    embedding: NDArray[np.float32]  # (rows, d); d is 0 where the unit gave no file

    def only(self, videos: NDArray[np.int64]) -> _Part:
        keep = np.isin(self.videos, videos)
        return self if keep.all() else _Part(self.videos[keep], self.windows[keep], self.embedding[keep])


def read_sequences(
    store: Store, upstream: Mapping[str, str], units: Sequence[Unit], *, wanted: Collection[str]
) -> tuple[Sequences, Ledgers]:
    """The sequences of the `wanted` videos that have clips in all products, in manifest order; and all ledgers.

    `upstream` maps product paths such as "features/c3d" to their fingerprints. Raises ReelmillError where a unit is
    missing or stale, where products were cut into different windows, or where a feature is not finite.
    """
    wanted = frozenset(wanted)
    ledgers: Ledgers = {path: [] for path in upstream}
    blocks: dict[str, list[NDArray[np.float32]]] = {path: [] for path in upstream}
    windows: list[NDArray[np.float64]] = []
    video_ids: list[str] = []
    lengths: list[int] = []
    for unit in units:
        parts: dict[str, _Part] = {}
        for path, fingerprint in upstream.items():
            receipt = require(store, path, unit, unit_fingerprint(fingerprint, unit))
            rows = read_ledger(store, path, unit.index)
            ledgers[path] += rows
            parts[path] = _read_part(store, path, receipt, rows, wanted)
        videos = _shared_videos(parts, rows)
        found, counts = np.unique(videos, return_counts=True)
        video_ids += [rows[index].video_id for index in found]
        lengths += counts.tolist()
        windows.append(next(iter(parts.values())).only(videos).windows)
        for path, part in parts.items():
            if len(videos):
                blocks[path].append(part.only(videos).embedding)
    matrix, dims = _side_by_side(blocks)
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return Sequences(tuple(video_ids), matrix, offsets, dims, np.concatenate([NO_WINDOWS, *windows])), ledgers


def _read_part(store: Store, path: str, receipt: Receipt, rows: Sequence[LedgerRow], wanted: frozenset[str]) -> _Part:
    if any(entry.path.startswith("maps-") for entry in receipt.files):
        raise ReelmillError(
            f"{store.uri}/{path}: holds maps (dense: true), and heads take vectors; make features without dense"
        )
    names = [entry.path for entry in receipt.files if entry.path.startswith("part-")]
    if not names:  # no video of this unit gave a clip
        return _Part(np.zeros(0, np.int64), NO_WINDOWS, np.zeros((0, 0), np.float32))
    name = f"{path}/{names[0]}"
    with store.open(name) as file:
        table = pq.read_table(file)
    places = {row.video_id: place for place, row in enumerate(rows) if row.video_id in wanted}
    of_row = np.array([places.get(video_id, -1) for video_id in table["video_id"].to_pylist()], dtype=np.int64)
    if set(table["view"].unique().to_pylist()) - {VIEW}:
        raise ReelmillError(f"{store.uri}/{name}: holds several views of a clip; heads are trained on {VIEW!r} alone")
    windows = np.stack([table[name].to_numpy() for name in ("start_s", "center_s", "end_s")], axis=1)
    clip_ids = np.array(table["clip_id"].to_pylist(), dtype=str)
    order = np.lexsort((clip_ids, windows[:, 0], of_row))
    order = order[of_row[order] >= 0]
    embedding = _matrix(table["embedding"])[order]
    finite = np.isfinite(embedding).all(axis=1)
    if not finite.all():
        video_id = rows[of_row[order][~finite][0]].video_id
        raise ReelmillError(f"{store.uri}/{name}: the features of video {video_id} are not finite; extract them again")
    return _Part(of_row[order], windows[order], embedding)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A fixed-size-list column as (rows, D), without a Python object per number."""
    array = column.combine_chunks()
    return np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), column.type.list_size)


def _shared_videos(parts: Mapping[str, _Part], rows: Sequence[LedgerRow]) -> NDArray[np.int64]:
    """For each clip of the videos that all products have, its video; the products' clips must be the same windows."""
    shared = set.intersection(*(set(part.videos.tolist()) for part in parts.values()))
    places = np.array(sorted(shared), dtype=np.int64)
    (first, base), *others = ((path, part.only(places)) for path, part in parts.items())
    for path, part in others:
        same_counts = np.array_equal(base.videos, part.videos)
        if same_counts and np.array_equal(base.windows[:, :2], part.windows[:, :2]):
            continue
        video_id = rows[_first_difference(base, part)].video_id
        raise ReelmillError(
            f"{first} and {path} were cut differently: the clips of video {video_id} do not start and centre at the "
            "same seconds; a head joins features whose clips have equal windows only"
        )
    return base.videos


def _first_difference(a: _Part, b: _Part) -> int:
    """The place of the first video whose windows differ."""
    for place in np.unique(a.videos):
        if not np.array_equal(a.windows[a.videos == place, :2], b.windows[b.videos == place, :2]):
            return int(place)
    raise AssertionError("the parts are equal")


def _side_by_side(
    blocks: Mapping[str, list[NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """All units' blocks as one (clips, D) matrix, filled block by block: no second copy of the whole."""
    dims = tuple(parts[0].shape[1] if parts else 0 for parts in blocks.values())
    num_clips = sum(len(block) for block in next(iter(blocks.values())))
    matrix = np.empty((num_clips, sum(dims)), dtype=np.float32)
    column = 0
    for dim, parts in zip(dims, blocks.values(), strict=True):
        row = 0
        while parts:
            block = parts.pop(0)
            matrix[row : row + len(block), column : column + dim] = block
            row += len(block)
        column += dim
    return matrix, dims
