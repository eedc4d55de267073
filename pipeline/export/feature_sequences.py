"""Stored features video by video: the rows of each in time order, views averaged, several products side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    def first(self, num_rows: int) -> Track:
        return Track(
            self.start_s[:num_rows], self.center_s[:num_rows], self.end_s[:num_rows], self.rows[:num_rows], self.views
        )


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
    rows = rows[np.argsort(seconds[0, rows], kind="stable")]
    window = np.cumsum(np.r_[0, np.diff(seconds[0, rows]) > SAME_S])
    order = np.lexsort((clip_ids[rows].astype(str), views[rows].astype(str), window))
    rows, window = rows[order], window[order]
    names = views[rows].astype(str)
    is_new = np.r_[True, (np.diff(window) != 0) | (names[1:] != names[:-1])]
    rows, window, names = rows[is_new], window[is_new], names[is_new]
    present = sorted(set(names))
    num_windows = int(window[-1]) + 1
    if len(rows) != num_windows * len(present):
        return f"some of its windows lack a view of {', '.join(present)}"
    places = rows.reshape(num_windows, len(present))
    start_s, center_s, end_s = seconds[:, places[:, 0]]
    return Track(start_s, center_s, end_s, places, tuple(present))


def placed(tracks: Mapping[str, Mapping[str, Track | str]], video_id: str, grid: Grid) -> FeatureVideo | Unplaced:
    """A video that is in each of `tracks` (product -> video_id -> windows), or why readers can't place it."""
    found: dict[str, Track] = {}
    for path, videos in tracks.items():
        track = videos[video_id]
        if isinstance(track, str):
            return Unplaced(video_id, f"in {path} {track}")
        reason = _off_grid(track, grid)
        if reason:
            return Unplaced(video_id, f"in {path} {reason}")
        found[path] = track
    # near the end of a video a window may hold a last frame and no field of flow
    num_rows = min(len(track.start_s) for track in found.values())
    (first, base), *others = found.items()
    for path, track in others:
        if not _same_windows(base, track, num_rows):
            return Unplaced(video_id, f"its windows in {first} are not those in {path}")
    longest = max(found.values(), key=lambda track: len(track.start_s))
    num_whole = _num_whole(longest, grid)
    if num_whole > num_rows:
        return Unplaced(video_id, f"it has {num_whole} whole windows in one product and {num_rows} in another")
    return FeatureVideo(
        video_id, tuple(track.first(num_rows) for track in found.values()), num_whole, _end_s(longest, num_whole, grid)
    )


def _same_windows(a: Track, b: Track, num_rows: int) -> bool:
    apart_s = np.abs(np.stack([a.start_s[:num_rows] - b.start_s[:num_rows], a.end_s[:num_rows] - b.end_s[:num_rows]]))
    return bool(apart_s.max() <= SAME_S)


def _off_grid(track: Track, grid: Grid) -> str | None:
    """What keeps the windows of a video from being the first ones of a regular run; None where nothing does."""
    step_s, length_s = float(grid.step_s), float(grid.length_s)
    for before_s, after_s in pairwise(track.start_s):
        if abs(after_s - before_s - step_s) > SAME_S:
            return (
                f"a window starts at {before_s:.6g} s and the next at {after_s:.6g} s, where a regular run has one "
                f"every {step_s:.6g} s"
            )
    for start_s, end_s in zip(track.start_s, track.end_s, strict=True):
        if end_s - start_s > length_s + SAME_S:
            return f"the window at {start_s:.6g} s lasts {end_s - start_s:.6g} s and not {length_s:.6g} s"
    if _is_whole(track, grid)[_num_whole(track, grid) :].any():
        return "a window that ends with the video comes before one that does not"
    return None


def _is_whole(track: Track, grid: Grid) -> NDArray[np.bool_]:
    """(T,) whether the last frame of a window, too, is before the end of the video."""
    is_whole: NDArray[np.bool_] = track.end_s - track.start_s > float(grid.length_s - 1 / grid.fps) + SAME_S
    return is_whole


def _num_whole(track: Track, grid: Grid) -> int:
    is_whole = _is_whole(track, grid)
    return len(is_whole) if is_whole.all() else int(is_whole.argmin())


def _end_s(track: Track, num_whole: int, grid: Grid) -> float:
    """Where the video ends. The end of a whole window may be a little later: its last frame is in it, no more."""
    end_s = float(track.end_s[-1] - track.start_s[0])
    if num_whole < len(track.end_s) or grid.step_s <= grid.length_s - 1 / grid.fps:
        return end_s
    return min(end_s, float(len(track.start_s) * grid.step_s))  # or another window would start there


# ---------------------------------------------------------------- the parts


def unit_parts(store: Store, products: Sequence[Product], unit: Unit) -> list[NDArray[np.float32]]:
    """The embeddings of each product in a unit, (rows, d) float32, in the part's order."""
    return [_matrix(_read(store, product, unit, ["embedding"])["embedding"]) for product in products]


def num_columns(store: Store, product: Product, unit: Unit) -> int:
    """d of a product. Raises as `unit_tracks` does."""
    with _part(store, product, unit) as part:
        return int(part.schema_arrow.field("embedding").type.list_size)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array = column.combine_chunks()
    return np.asarray(array.flatten(), dtype=np.float32).reshape(len(array), column.type.list_size)


def _read(store: Store, product: Product, unit: Unit, columns: list[str]) -> pa.Table:
    with _part(store, product, unit) as part:
        return part.read(columns=columns)


@contextmanager
def _part(store: Store, product: Product, unit: Unit) -> Iterator[pq.ParquetFile]:
    """Raises ReelmillError where it is missing, or damaged where it is read."""
    path = f"{product.path}/part-{unit.index:06d}.parquet"
    try:
        with store.open(path) as file:
            yield pq.ParquetFile(file)
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
