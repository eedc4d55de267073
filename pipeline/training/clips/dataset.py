"""The clips of a clips or flow product as training items: where each lies in its shard, its class and its split."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.graph import Unit, unit_fingerprint
from pipeline.shards import Span, sample_spans
from pipeline.store import Store
from pipeline.training.account import LeftOut, account
from pipeline.training.annotated import Missing
from pipeline.training.classification.dataset import LabelledVideos, classes_of, needed_splits
from pipeline.training.splits import Role, Split, assign
from pipeline.training.task import Source
from pipeline.units import read_labels, unit_table
from schemas.heads import ClipClassifierHead
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow


@dataclass(frozen=True, slots=True)
class StoredClip:
    """One sample of a shard, as the product's index has it."""

    unit: int
    span: Span
    clip_id: str
    video_id: str
    label_ids: tuple[int, ...]
    size: tuple[int, int]  # (height, width) in px


@dataclass(frozen=True)
class ClipData(LabelledVideos):
    """Clips by video: those of one video and one class are one group, whose answers are averaged at test.

    A "video" of the base class is such a group here; in a source of trimmed videos there is no difference.
    """

    clips: tuple[StoredClip, ...]
    group: NDArray[np.int64]  # (clips,)
    left_out_clips: Mapping[str, int]  # why clips of usable videos are not used -> how many
    shards_sha256: tuple[str, ...]

    def clips_of(self, split: Split) -> NDArray[np.int64]:
        """Indices of the clips of a split."""
        return np.flatnonzero(self.splits[self.group] == split)


@dataclass(frozen=True, slots=True)
class _UnitClips:
    """What one unit of the product holds."""

    clips: Sequence[StoredClip]  # in the order of the shard
    ledger: Sequence[LedgerRow]
    shard_sha256: str | None  # None: no video of this unit gave a clip


UNITS_AT_ONCE = 16  # threads: finding the samples of a shard is a pass over its headers, and waits for storage


def load_clips(source: Source, settings: ClipClassifierHead) -> ClipData:
    """Read what a network is trained on: no pixels yet. Raises ReelmillError wherever training makes no sense."""
    product, where = source.product, source.product.path
    rows = [VideoRow.from_dict(row) for row in unit_table(source.store, source.unit).to_pylist()]
    # a video may have several classes: its clips have labels of their own
    assigned = assign(rows, holdout=settings.holdout, where=where, labelled="some")
    roles = {role.video_id: role for role in assigned}
    read = partial(_read_unit, source.store, settings.source, fingerprint=product.upstream[settings.source])
    with ThreadPoolExecutor(UNITS_AT_ONCE) as pool:
        units = list(pool.map(read, source.units))
    of_roles = [clip for unit in units for clip in unit.clips if not roles[clip.video_id].reason]
    clips = [clip for clip in of_roles if len(clip.label_ids) == 1]
    groups, group = _group(clips)
    lengths = np.bincount(group, minlength=len(groups))
    names = read_labels(source.store)
    used = [_role_of(video_id, label_id, roles, names) for video_id, label_id in groups]
    classes = classes_of(used, needed=needed_splits(rows, "some"), where=where)
    ledger = account(
        rows,
        {settings.source: [row for unit in units for row in unit.ledger]},
        left_out={name: LeftOut(role.reason, role.message) for name, role in roles.items() if role.reason},
        num_items=Counter(clip.video_id for clip in clips),
        nothing=LeftOut("no_clips", "gave no clip of exactly one class to train on"),
    )
    return ClipData(
        video_ids=tuple(video_id for video_id, _ in groups),
        lengths=lengths,
        labels=np.searchsorted([label_id for label_id, _ in classes], [role.label_id for role in used]),
        splits=np.array([role.split for role in used], dtype=str),
        classes=classes,
        ledger=tuple(ledger),
        missing=_missing(ledger, roles),
        clips=tuple(clips),
        group=group,
        left_out_clips=_left_out_clips(of_roles),
        shards_sha256=tuple(unit.shard_sha256 for unit in units if unit.shard_sha256),
    )


def _left_out_clips(clips: Sequence[StoredClip]) -> dict[str, int]:
    """How many clips have no class, or several, by the reasons that ledgers give."""
    counts = [len(clip.label_ids) for clip in clips]
    found = {"no_label": sum(n == 0 for n in counts), "multi_label": sum(n > 1 for n in counts)}
    return {reason: number for reason, number in found.items() if number}


def _missing(ledger: Sequence[LedgerRow], roles: Mapping[str, Role]) -> tuple[Missing, ...]:
    """The labelled videos that have no clip here, and why."""
    without = [row for row in ledger if not row.num_items and not roles[row.video_id].reason]
    return tuple(Missing(row.video_id, roles[row.video_id].split, row.message) for row in without)


def _read_unit(store: Store, path: str, unit: Unit, *, fingerprint: str) -> _UnitClips:
    receipt = receipts.require(store, path, unit, unit_fingerprint(fingerprint, unit))
    ledger = receipts.read_ledger(store, path, unit.index)
    shards = [entry for entry in receipt.files if entry.path.endswith(".tar")]
    if not shards:
        return _UnitClips((), ledger, None)
    (shard,) = shards
    name = f"{path}/{shard.path}"
    try:
        with store.open(name) as file:
            spans = dict(sample_spans(file))
        name = f"{path}/_index/{unit.index:06d}.parquet"
        with store.open(name) as file:
            index = pq.read_table(file, columns=list(_COLUMNS)).to_pylist()
        if [row["clip_id"] for row in index] != list(spans):
            raise tarfile.ReadError("its rows are not the samples of the shard")
    except (OSError, pa.ArrowInvalid, tarfile.TarError) as error:
        raise receipts.unreadable(name, path, unit.index, error) from None
    return _UnitClips([_stored(row, unit.index, spans) for row in index], ledger, shard.sha256)


_COLUMNS = ("clip_id", "video_id", "label_ids", "height_px", "width_px")


def _stored(row: Mapping[str, Any], unit: int, spans: Mapping[str, Span]) -> StoredClip:
    size = (row["height_px"], row["width_px"])
    return StoredClip(unit, spans[row["clip_id"]], row["clip_id"], row["video_id"], tuple(row["label_ids"]), size)


def _group(clips: Sequence[StoredClip]) -> tuple[list[tuple[str, int]], NDArray[np.int64]]:
    """The (video, class) groups in the order of their first clips, and each clip's group."""
    places: dict[tuple[str, int], int] = {}
    group = [places.setdefault((clip.video_id, clip.label_ids[0]), len(places)) for clip in clips]
    return list(places), np.array(group, dtype=np.int64)


def _role_of(video_id: str, label_id: int, roles: Mapping[str, Role], names: Sequence[str]) -> Role:
    name = names[label_id] if label_id < len(names) else str(label_id)
    return Role(video_id, split=roles[video_id].split, label_id=label_id, label=name)


def sizes_of(clips: Sequence[StoredClip]) -> Iterator[tuple[int, int]]:
    """The (height, width) that clips have, each once, in order."""
    yield from dict.fromkeys(clip.size for clip in clips)
