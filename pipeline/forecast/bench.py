"""The workbench of a probe: a temporary dataset whose units are single videos of the sample.

whole   the video, or its first WHOLE_S seconds where it is longer and the windows go by a stride
short   the middle of it, one clip long: what flow is timed on
none    a video that is not there: what a unit costs beside its videos
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.forecast.sample import Picked
from pipeline.graph import Product, Unit
from pipeline.shards import ShardWriter, read_shard
from pipeline.store import Store
from pipeline.units import plan_units, write_manifest
from schemas.clips import CLIP_INDEX_SCHEMA
from schemas.config import Clips
from schemas.flow import FLOW_INDEX_SCHEMA

WHOLE_S = 60.0  # of a long video; the rest of it is taken to be like its beginning
NUM_NONE = 3
INDEX_SCHEMAS: dict[str, pa.Schema] = {"clips": CLIP_INDEX_SCHEMA, "flow": FLOW_INDEX_SCHEMA}
FIRST_JOINED = 100_000  # the index of the first unit that is put together from others


@dataclass(frozen=True, slots=True)
class Probed:
    """A video of the sample: where it stands in the manifest, and in the temporary one."""

    picked: Picked
    scale: float  # its length over that of its `whole`
    whole: tuple[Unit, ...]  # alike, so that there is work for all cores
    short: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    store: Store
    videos: tuple[Probed, ...]
    none: tuple[Unit, ...]

    def units(self, part: str) -> list[Unit]:
        """All units of a part, "whole" or "short", the first of each video first."""
        rounds: Iterable[tuple[Unit, ...]] = zip(*(getattr(video, part) for video in self.videos), strict=True)
        return [unit for units in rounds for unit in units]

    def join(self, product: Product, units: Sequence[Unit], number: int) -> Unit:
        """Put neighbouring units that stand together as one, whose files are those that its stage would make."""
        rows = pq.read_table(self.store.path("manifest.parquet")).slice(units[0].start_row, len(units))
        into = replace(plan_units(rows, len(units))[0], index=FIRST_JOINED + number, start_row=units[0].start_row)
        shard_name = product.kind  # clips-000000.tar, flow-000000.tar
        with receipts.begin(self.store, product, into) as writer:
            with ShardWriter(writer.file(f"{shard_name}-{into.index:06d}.tar")) as shard:
                for unit in units:
                    with self.store.open(f"{product.path}/{shard_name}-{unit.index:06d}.tar") as file:
                        for key, members in read_shard(file):
                            shard.add(key, members)
            paths = [self.store.path(f"{product.path}/_index/{unit.index:06d}.parquet") for unit in units]
            index = [row for path in paths for row in pq.read_table(path).to_pylist()]
            table = pa.Table.from_pylist(index, schema=INDEX_SCHEMAS[product.kind])
            writer.table(f"_index/{into.index:06d}.parquet", table)
            ledger = [row for unit in units for row in receipts.read_ledger(self.store, product.path, unit.index)]
            writer.commit(ledger, items=len(index))
        return into


def lay_out(
    folder: str,
    manifest: pa.Table,
    picked: Sequence[Picked],
    *,
    clips: Sequence[Clips],
    rounds: int,
    lengths_s: Callable[[Sequence[str]], list[float | None]],
) -> Bench:
    """Write the temporary manifest. `rounds`: how many units are made of each part of a video."""
    rows = manifest.take([one.row for one in picked]).to_pylist()
    strides = [spec for spec in clips if spec.windows == "stride"]
    known = lengths_s([row["uri"] for row in rows]) if strides else [None] * len(rows)
    cuts = [
        _Cut(row, length, strides, all_stride=len(strides) == len(clips))
        for row, length in zip(rows, known, strict=True)
    ]
    laid: list[dict[str, Any]] = []
    for part in ("whole", "short"):
        for number in range(rounds):
            for index, cut in enumerate(cuts):
                as_is = getattr(cut, part)
                laid.append({**as_is, "video_id": _as_long(f"{part[0]}{number}-{index}-", as_is["video_id"])})
    for number in range(NUM_NONE):
        nothing = {"uri": f"{folder}/no-such-video", "video_id": _as_long(f"n{number}-", rows[0]["video_id"])}
        laid.append({**rows[0], "start_s": None, "end_s": None, **nothing})
    store = Store(folder)
    table = pa.Table.from_pylist(laid, schema=manifest.schema)
    write_manifest(store, table)
    units = plan_units(table, 1)
    count = len(cuts)
    videos = [
        Probed(
            picked=one,
            scale=cut.scale,
            whole=tuple(units[index : rounds * count : count]),
            short=tuple(units[rounds * count + index : 2 * rounds * count : count]),
        )
        for index, (one, cut) in enumerate(zip(picked, cuts, strict=True))
    ]
    return Bench(store, tuple(videos), tuple(units[-NUM_NONE:]))


def _as_long(name: str, video_id: str) -> str:
    """`name`, and as much of an id as makes it that long: ids stand in all tables, several times in the smallest."""
    return name + video_id[len(name) :]


class _Cut:
    """The parts of a video that are probed, as manifest rows."""

    def __init__(self, row: dict[str, Any], length_s: float | None, strides: Sequence[Clips], all_stride: bool) -> None:
        self.whole = self.short = row
        self.scale = 1.0
        start_s = row["start_s"] or 0.0
        stop_s = min((end for end in (row["end_s"], length_s) if end is not None), default=None)
        if stop_s is None or not strides:
            return
        used_s = stop_s - start_s
        clip_s = max(spec.length_s for spec in strides)
        if all_stride and used_s > 1.5 * WHOLE_S:
            self.whole = {**row, "start_s": start_s, "end_s": start_s + WHOLE_S}
            self.scale = used_s / WHOLE_S
        if used_s > 1.5 * clip_s:
            middle_s = start_s + (used_s - clip_s) / 2
            self.short = {**row, "start_s": middle_s, "end_s": middle_s + clip_s}
