"""Dense maps of one features product, or of several side by side: where each lies in its shard, and what it covers.

A map of T steps covers a window of its video from start_s on. Step k is what the net made of frames k·f to (k + 1)·f of
the window, f being the index' frames_per_step, and frame j stands at start_s + j / fps; so an instant s is at step
(s - start_s) · fps / f - 0.5, counted from the middle of the first step.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.graph import Unit, unit_fingerprint
from pipeline.shards import Span, sample_spans
from pipeline.store import Store
from pipeline.training.detection.origin import Origin, read_origin
from pipeline.training.sequences import VIEW, Ledgers
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow

SAME_SHARE = 1e-3  # of a frame's side: views of two products that differ by less are one

INSTANTS_AT_A_TIME = 256

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Maps:
    """M maps by video and start. Legend: C channels of all products, T steps, H×W cells."""

    video_ids: tuple[str, ...]  # of the videos that have maps in every product, in manifest order
    offsets: Ints  # (videos + 1,): video v has the maps offsets[v] to offsets[v + 1]
    windows: Floats  # (M, 3) start_s, center_s, end_s
    view: Floats  # (M, 4) x1 y1 x2 y2 of what a map covers, in shares of the video's frame
    frame_px: Ints  # (M, 2) height and width of the frames that enter the first product's net, before its crop
    keys: tuple[str, ...]  # (M,) of the first product's samples
    unit: Ints  # (M,)
    spans: Mapping[str, Sequence[Span]]  # of each product, by path: (M,) where its samples lie
    blocks: tuple[int, ...]  # channels of each product
    shape: tuple[int, int, int]  # (T, H, W)
    step_s: float
    origin: Origin  # of the first product

    def __len__(self) -> int:
        return len(self.keys)

    def of_video(self, video: int) -> Ints:
        """The rows of a video's maps."""
        return np.arange(self.offsets[video], self.offsets[video + 1])

    def answer(self, video: int, second: Floats) -> Ints:
        """For each instant (N,) of a video the map whose window has it and is centred nearest to it; -1 for none.

        Of two that are equally near the earlier one.
        """
        rows = self.of_video(video)
        start_s, center_s, end_s = self.windows[rows].T
        best = np.full(len(second), -1, dtype=np.int64)
        for at in range(0, len(second), INSTANTS_AT_A_TIME):
            some = second[at : at + INSTANTS_AT_A_TIME, None]
            has = (start_s <= some) & (some < end_s)  # (instants, maps of the video)
            away = np.where(has, np.abs(center_s - some), np.inf)
            best[at : at + INSTANTS_AT_A_TIME] = np.where(has.any(axis=1), rows[away.argmin(axis=1)], -1)
        return best

    def step_at(self, row: Ints, second: Floats) -> Floats:
        """The steps (N,) at which instants (N,) are in the maps `row` (N,); see the module."""
        steps: Floats = (second - self.windows[row, 0]) / self.step_s - 0.5
        return steps


@dataclass(frozen=True)
class _Part:
    """The maps of one product: rows of its index, by video and start."""

    path: str
    place: Ints  # (rows,) of the video in the manifest
    windows: Floats
    view: Floats
    index: list[dict[str, Any]]
    unit: Ints
    spans: list[Span]
    origin: Origin

    def only(self, places: Ints) -> _Part:
        rows = np.flatnonzero(np.isin(self.place, places))
        return self.take(rows)

    def take(self, rows: Ints) -> _Part:
        index, spans = [self.index[row] for row in rows], [self.spans[row] for row in rows]
        return _Part(
            self.path, self.place[rows], self.windows[rows], self.view[rows], index, self.unit[rows], spans, self.origin
        )


def read_maps(store: Store, upstream: Mapping[str, str], units: Sequence[Unit], *, where: str) -> tuple[Maps, Ledgers]:
    """The maps of the videos that have some in all products, and all ledgers. Pixels are not read.

    `upstream` maps product paths to their fingerprints; `where` names the head in errors. Raises ReelmillError where a
    unit is missing, stale or damaged, where no video has maps, and where maps differ in windows, place or size.
    """
    parts, ledgers = [], {}
    for path, fingerprint in upstream.items():
        part, ledgers[path] = _read_product(store, path, fingerprint, units)
        parts.append(part)
    shared = set.intersection(*(set(part.place.tolist()) for part in parts))
    if not shared:
        raise ReelmillError(f"{where}: no video has maps; see the ledger of its features for the reasons")
    places = np.array(sorted(shared), dtype=np.int64)
    parts = [part.only(places) for part in parts]
    first = parts[0]
    shapes = [_shape(part) for part in parts]
    for part, shape in zip(parts[1:], shapes[1:], strict=True):
        _check_equal(first, part, shapes[0], shape)
    facts = first.index[0]
    maps = Maps(
        video_ids=tuple(_unique(row["video_id"] for row in first.index)),
        offsets=np.append(np.searchsorted(first.place, places), len(first.place)),
        windows=first.windows,
        view=first.view,
        frame_px=np.array([[row["frame_height_px"], row["frame_width_px"]] for row in first.index], dtype=np.int64),
        keys=tuple(row["key"] for row in first.index),
        unit=first.unit,
        spans={part.path: part.spans for part in parts},
        blocks=tuple(shape[0] for shape in shapes),
        shape=shapes[0][1:],
        step_s=facts["frames_per_step"] / first.origin.fps,
        origin=first.origin,
    )
    return maps, ledgers


def _unique(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _read_product(store: Store, path: str, fingerprint: str, units: Sequence[Unit]) -> tuple[_Part, list[LedgerRow]]:
    origin = read_origin(store, path)
    index: list[dict[str, Any]] = []
    spans: list[Span] = []
    place: list[int] = []
    unit_of: list[int] = []
    ledger: list[LedgerRow] = []
    for unit in units:
        rows = receipts.read_ledger(store, path, unit.index)
        found, at = _read_unit(store, path, unit, fingerprint)
        number = {row.video_id: len(ledger) + offset for offset, row in enumerate(rows)}
        place += [number[row["video_id"]] for row in found]
        unit_of += [unit.index] * len(found)
        index += found
        spans += at
        ledger += rows
    windows = np.array([[row[name] for name in ("start_s", "center_s", "end_s")] for row in index], dtype=np.float64)
    part = _Part(
        path=path,
        place=np.array(place, dtype=np.int64),
        windows=windows.reshape(-1, 3),
        view=origin.view(_inside(index)),
        index=index,
        unit=np.array(unit_of, dtype=np.int64),
        spans=spans,
        origin=origin,
    )
    keys = np.array([row["key"] for row in index], dtype=str)
    return part.take(np.lexsort((keys, part.windows[:, 0], part.place))), ledger


def _inside(index: Sequence[Mapping[str, Any]]) -> Floats:
    """Where the views are (M, 4), in shares of the frames that they were cut from."""
    names = ("left_px", "top_px", "width_px", "height_px", "frame_width_px", "frame_height_px")
    columns = np.array([[row[name] for name in names] for row in index], dtype=np.float64).reshape(-1, 6)
    corner, side, frame = columns[:, :2], columns[:, 2:4], columns[:, 4:]
    return np.concatenate([corner / frame, (corner + side) / frame], axis=1)


def _read_unit(store: Store, path: str, unit: Unit, fingerprint: str) -> tuple[list[dict[str, Any]], list[Span]]:
    """The index of one unit in the order of its shard, and where the samples lie."""
    receipt = receipts.require(store, path, unit, unit_fingerprint(fingerprint, unit))
    names = [entry.path for entry in receipt.files]
    if any(name.startswith("part-") for name in names):
        raise ReelmillError(
            f"{store.uri}/{path}: holds vectors, and this head takes maps; make features with dense: true"
        )
    shard = f"{path}/maps-{unit.index:06d}.tar"
    try:
        with store.open(shard) as file:
            spans = dict(sample_spans(file))
        with store.open(f"{path}/_index/{unit.index:06d}.parquet") as file:
            index = pq.read_table(file).to_pylist()
    except (OSError, tarfile.TarError) as error:
        raise receipts.unreadable(shard, path, unit.index, error) from None
    if [row["key"] for row in index] != list(spans):
        raise receipts.unreadable(shard, path, unit.index, "its samples are not those of its index")
    if {row["view"] for row in index} - {VIEW}:
        raise ReelmillError(f"{store.uri}/{path}: holds several views of a clip; heads are trained on {VIEW!r} alone")
    return index, list(spans.values())


def _shape(part: _Part) -> tuple[int, int, int, int]:
    """(C, T, H, W) of all maps of a product."""
    names = ("channels", "steps", "map_height", "map_width")
    first = tuple(part.index[0][name] for name in names)
    for row in part.index:
        shape = tuple(row[name] for name in names)
        if shape != first or row["frames_per_step"] != part.index[0]["frames_per_step"]:
            a, b = ("×".join(map(str, one)) for one in (first, shape))
            raise ReelmillError(
                f"{part.path}: its maps are of several sizes (video {part.index[0]['video_id']}: {a}, video "
                f"{row['video_id']}: {b}; channels×steps×rows×columns), and a batch takes one; set preprocess.crop or "
                "resize in the features, or resize in the clips"
            )
    return first


def _check_equal(a: _Part, b: _Part, shape: Sequence[int], other: Sequence[int]) -> None:
    """Raises ReelmillError where two products can't stand side by side: what differs first."""
    both, first = f"{a.path} and {b.path}", a.index[0]
    if tuple(shape[1:]) != tuple(other[1:]):
        sizes = " and ".join("×".join(map(str, one[1:])) for one in (shape, other))
        raise ReelmillError(f"{both}: their maps are of {sizes} (steps×rows×columns); a head joins equal ones only")
    steps_s = [part.index[0]["frames_per_step"] / part.origin.fps for part in (a, b)]
    if abs(steps_s[0] - steps_s[1]) * first["steps"] > 1.01 / a.origin.fps:
        said = " and ".join(f"{step_s:.4g} s" for step_s in steps_s)
        raise ReelmillError(f"{both}: a step of their maps is {said}; a head joins maps of one stride only")
    same_rows = np.array_equal(a.place, b.place) and np.array_equal(a.windows[:, :2], b.windows[:, :2])
    if not same_rows:
        counts = {place: (a.place == place).sum() for place in a.place}
        place = next(
            (p for p in counts if counts[p] != (b.place == p).sum() or _starts(a, p) != _starts(b, p)), int(a.place[0])
        )
        video_id = a.index[int(np.searchsorted(a.place, place))]["video_id"]
        raise ReelmillError(
            f"{both} were cut differently: the windows of video {video_id} do not start and centre at the same "
            "seconds; a head joins maps of equal windows only"
        )
    apart = np.abs(a.view - b.view).max(axis=1)
    if apart.max(initial=0) > SAME_SHARE:
        video_id = a.index[int(apart.argmax())]["video_id"]
        raise ReelmillError(f"{both} cover different parts of the frames of video {video_id}; give both the same crop")


def _starts(part: _Part, place: int) -> list[list[float]]:
    starts: list[list[float]] = part.windows[part.place == place, :2].tolist()
    return starts
