"""The clips of a clips or flow product as training items: where each lies in its shard, its class and its split."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import receipts
from pipeline.graph import Unit, unit_fingerprint
from pipeline.shards import Span, sample_spans
from pipeline.store import Store
from pipeline.training.account import LeftOut, account
from pipeline.training.classification.dataset import LabelledVideos, classes_of
from pipeline.training.splits import Role, Split, assign, expects_test
from pipeline.training.task import Source
from pipeline.units import read_labels, unit_table
from schemas.errors import ReelmillError
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

    def clips_of(self, split: Split) -> NDArray[np.int64]:
        """Indices of the clips of a split."""
        return np.flatnonzero(self.splits[self.group] == split)


def load_clips(source: Source, settings: ClipClassifierHead) -> ClipData:
    """Read what a network is trained on: no pixels yet. Raises ReelmillError wherever training makes no sense."""
    product, store = source.product, source.store
    rows = [VideoRow.from_dict(row) for row in unit_table(store, source.unit).to_pylist()]
    roles = {
        role.video_id: role
        for role in assign(rows, holdout=settings.holdout, where=product.path, labelled="some")  # a clip has its own
    }
    names = read_labels(store)
    ledgers: dict[str, list[LedgerRow]] = {settings.source: []}
    clips: list[StoredClip] = []
    for unit in source.units:
        found, ledger = _read_unit(store, settings.source, unit, product.upstream[settings.source])
        ledgers[settings.source] += ledger
        clips += [clip for clip in found if len(clip.label_ids) == 1 and not roles[clip.video_id].reason]
    groups, group = _group(clips)
    used = [_role_of(video_id, label_id, roles, names) for video_id, label_id in groups]
    needed: tuple[Split, ...] = ("train", "val", "test") if expects_test(rows, labelled="some") else ("train", "val")
    classes = classes_of(used, needed=needed, where=product.path)
    index = {label_id: k for k, (label_id, _) in enumerate(classes)}
    counts = np.bincount(group, minlength=len(groups))
    num_items: dict[str, int] = {}
    for (video_id, _), count in zip(groups, counts.tolist(), strict=True):
        num_items[video_id] = num_items.get(video_id, 0) + count
    return ClipData(
        video_ids=tuple(video_id for video_id, _ in groups),
        lengths=counts,
        labels=np.array([index[role.label_id] for role in used], dtype=np.int64),
        splits=np.array([role.split for role in used], dtype=str),
        classes=classes,
        ledger=tuple(
            account(
                rows,
                ledgers,
                left_out={name: LeftOut(role.reason, role.message) for name, role in roles.items() if role.reason},
                num_items=num_items,
                nothing=LeftOut("no_clips", "gave no clip of exactly one class to train on"),
            )
        ),
        clips=tuple(clips),
        group=group,
    )


def _read_unit(store: Store, path: str, unit: Unit, fingerprint: str) -> tuple[list[StoredClip], list[LedgerRow]]:
    """The clips of one unit in the order of the shard, and its ledger."""
    receipt = receipts.require(store, path, unit, unit_fingerprint(fingerprint, unit))
    ledger = receipts.read_ledger(store, path, unit.index)
    names = {entry.path.partition("-")[0]: entry.path for entry in receipt.files}
    shard = names.get(path.partition("/")[0])
    if shard is None:  # no video of this unit gave a clip
        return [], ledger
    try:
        with store.open(f"{path}/{shard}") as file:
            spans = dict(sample_spans(file))
    except tarfile.TarError as error:
        raise ReelmillError(f"{store.uri}/{path}/{shard}: damaged ({error}); `reelmill verify` says more") from None
    with store.open(f"{path}/_index/{unit.index:06d}.parquet") as file:
        columns = ["clip_id", "video_id", "label_ids", "height_px", "width_px"]
        index = pq.read_table(file, columns=columns).to_pylist()
    if [row["clip_id"] for row in index] != list(spans):
        raise ReelmillError(f"{store.uri}/{path}/{shard}: its samples are not those of its index; make it again")
    return [_stored(row, unit.index, spans) for row in index], ledger


def _stored(row: Mapping[str, object], unit: int, spans: Mapping[str, Span]) -> StoredClip:
    clip_id, video_id, label_ids, height_px, width_px = row.values()
    assert isinstance(label_ids, list)
    size = (int(str(height_px)), int(str(width_px)))
    return StoredClip(unit, spans[str(clip_id)], str(clip_id), str(video_id), tuple(label_ids), size)


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
