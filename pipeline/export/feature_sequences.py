"""Stored features video by video: the rows of each in time order, views averaged, several products side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.export.grid import SAME_S, Grid
from pipeline.graph import Product, Unit
from pipeline.store import Store
from schemas.errors import UsageError

WINDOW_COLUMNS = ["video_id", "clip_id", "view", "start_s", "center_s", "end_s"]


@dataclass(frozen=True, slots=True)
class Track:
    """The windows of one video in one product, by start."""

    start_s: NDArray[np.float64]  # (T,) on the source's clock
    center_s: NDArray[np.float64]  # (T,)
    end_s: NDArray[np.float64]  # (T,)
    rows: NDArray[np.int64]  # (T, V): places in the product's part, a column a view
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeatureVideo:
    """One video whose windows are on the grid, and the same in all products. Its seconds count from its first row."""

    video_id: str
    tracks: tuple[Track, ...]  # one a product
    num_whole: int  # rows before the first whose window reaches beyond the end of the video
    end_s: float  # of the video, as far as its rows tell

    @property
    def start_s(self) -> float:
        """The readers' second 0, on the source's clock."""
        return float(self.tracks[0].start_s[0])

    @property
    def num_rows(self) -> int:
        return len(self.tracks[0].start_s)

    @property
    def center_s(self) -> NDArray[np.float64]:
        """(T,) the middle of what each row has seen of the video."""
        return self.tracks[0].center_s - self.start_s

    def features(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(T, D) float32, from each product's part (rows, d): the mean of the views, products side by side."""
        means = [part[track.rows].mean(axis=1) for part, track in zip(parts, self.tracks, strict=True)]
        return np.concatenate(means, axis=1)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A video that has rows, but none that readers could place."""

    video_id: str
    reason: str


def unit_tracks(store: Store, product: Product, unit: Unit) -> dict[str, Track | str]:
    """video_id -> the windows of each video of a unit; a sentence where its views are not complete.

    Raises UsageError for dense maps, ReelmillError where the part is missing or damaged.
    """
    table = _read(store, product, unit, WINDOW_COLUMNS)
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in ("video_id", "clip_id", "view")}
    seconds = np.stack([table[name].to_numpy() for name in ("start_s", "center_s", "end_s")])  # (3, rows)
    rows_of: dict[str, list[int]] = {}
    for row, video_id in enumerate(columns["video_id"]):
        rows_of.setdefault(video_id, []).append(row)
    return {
        video_id: _track(np.array(rows), columns["clip_id"], columns["view"], seconds)
        for video_id, rows in rows_of.items()
    }


def _track(
    rows: NDArray[np.int64], clip_ids: NDArray[np.object_], views: NDArray[np.object_], seconds: NDArray[np.float64]
) -> Track | str:
    """The windows of one video. Where two clips hold the same window, that of the first clip counts."""
    ids, names = clip_ids[rows].astype(str), views[rows].astype(str)
    rows = rows[np.lexsort((ids, names, np.rint(seconds[0, rows] / SAME_S)))]
    names = views[rows].astype(str)
    ticks = np.rint(seconds[0, rows] / SAME_S)
    is_new = np.r_[True, (np.diff(ticks) != 0) | (names[1:] != names[:-1])]
    rows, names, ticks = rows[is_new], names[is_new], ticks[is_new]
    present = sorted(set(names))
    starts = np.unique(ticks)
    if len(rows) != len(starts) * len(present):
        return f"some of its windows lack a view of {', '.join(present)}"
    places = rows.reshape(len(starts), len(present))
    start_s, center_s, end_s = seconds[:, places[:, 0]]
    return Track(start_s, center_s, end_s, places, tuple(present))


def placed(tracks: Mapping[str, Mapping[str, Track | str]], video_id: str, grid: Grid) -> FeatureVideo | Unplaced:
    """A video that is in each of `tracks` (product -> video_id -> windows), or why readers can't place it."""
    found: list[Track] = []
    for path, videos in tracks.items():
        track = videos[video_id]
        if isinstance(track, str):
            return Unplaced(video_id, f"in {path} {track}")
        if found and not _same_windows(found[0], track):
            return Unplaced(video_id, f"its windows in {next(iter(tracks))} are not those in {path}")
        found.append(track)
    reason = _off_grid(found[0], grid)
    if reason:
        return Unplaced(video_id, reason)
    return FeatureVideo(video_id, tuple(found), _num_whole(found[0], grid), _end_s(found[0], grid))


def _same_windows(a: Track, b: Track) -> bool:
    if len(a.start_s) != len(b.start_s):
        return False
    return bool(np.abs(np.r_[a.start_s - b.start_s, a.end_s - b.end_s]).max() <= SAME_S)


def _off_grid(track: Track, grid: Grid) -> str | None:
    """What keeps the windows of a video from being the first ones of a regular run; None where nothing does."""
    step_s, length_s = float(grid.step_s), float(grid.length_s)
    for before_s, after_s in pairwise(track.start_s):
        if abs(after_s - before_s - step_s) > SAME_S:
            return (
                f"a window starts at {before_s:.6g} s and the next at {after_s:.6g} s, where a regular run has one "
                f"every {step_s:.6g} s"
            )
    num_whole = _num_whole(track, grid)
    for start_s, end_s in zip(track.start_s[num_whole:], track.end_s[num_whole:], strict=True):
        if end_s - start_s > length_s - SAME_S:
            return f"the window at {start_s:.6g} s lasts {end_s - start_s:.6g} s, after one that ends with the video"
    return None


def _num_whole(track: Track, grid: Grid) -> int:
    is_whole = np.abs(track.end_s - track.start_s - float(grid.length_s)) <= SAME_S
    return len(is_whole) if is_whole.all() else int(is_whole.argmin())


def _end_s(track: Track, grid: Grid) -> float:
    end_s = float(track.end_s.max() - track.start_s[0])
    if grid.step_s <= grid.length_s - 1 / grid.fps:
        return end_s
    # a window counts as whole up to a frame after the end, and the video ends before a next one would start
    return min(end_s, float(len(track.start_s) * grid.step_s))


# ---------------------------------------------------------------- the parts


def unit_parts(store: Store, products: Sequence[Product], unit: Unit) -> list[NDArray[np.float32]]:
    """The embeddings of each product in a unit, (rows, d) float32, in the part's order."""
    return [_matrix(_read(store, product, unit, ["embedding"])["embedding"]) for product in products]


def num_columns(store: Store, product: Product, unit: Unit) -> int:
    """d of a product. Raises as `unit_tracks` does."""
    return int(_read(store, product, unit, ["embedding"]).schema.field("embedding").type.list_size)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    return np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), column.type.list_size)


def _read(store: Store, product: Product, unit: Unit, columns: list[str]) -> pa.Table:
    path = f"{product.path}/part-{unit.index:06d}.parquet"
    try:
        with store.open(path) as file:
            return pq.read_table(file, columns=columns)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, product.path, unit.index, error) from None


def refuse_maps(store: Store, product: Product, unit: Unit) -> None:
    """Raises UsageError where a product holds dense maps instead of pooled vectors."""
    receipt = receipts.load(store, product.path, unit.index)
    if receipt and any(entry.path.startswith("maps-") for entry in receipt.files):
        raise UsageError(
            f"--product {product.path} holds C x T x H x W maps, and readers of features take one vector a window; "
            "make a features product without `dense`, and export that"
        )
