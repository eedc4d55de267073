"""What a head is trained on: sequences with labels and splits, and what became of every manifest row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.objectives import Labels
from pipeline.training.account import LeftOut, account
from pipeline.training.annotated import Missing, find_missing
from pipeline.training.sequences import Sequences, read_sequences
from pipeline.training.splits import SPLITS, Labelled, Role, Split, assign, expects_test
from pipeline.training.task import Source
from pipeline.units import unit_table
from schemas.errors import ReelmillError
from schemas.heads import SequenceSettings
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow

Classes = tuple[tuple[int, str], ...]  # (label_id, name), by label_id

HOLDOUT = "label more videos, or change holdout.fraction or holdout.seed"


@dataclass(frozen=True)
class LabelledVideos:
    """All videos that a head uses, in manifest order. Class k is classes[k]; labels index into it."""

    video_ids: tuple[str, ...]
    lengths: NDArray[np.int64]  # (videos,) clips of each
    labels: NDArray[Any]  # (videos,) int64; HeadData has others, too
    splits: NDArray[np.str_]  # (videos,) "train", "val" or "test"
    classes: Classes
    ledger: tuple[LedgerRow, ...]  # one row per manifest row
    missing: tuple[Missing, ...] = field(default=(), kw_only=True)  # labelled videos without features

    def videos_of(self, split: Split) -> NDArray[np.int64]:
        """Indices of the videos of a split."""
        return np.flatnonzero(self.splits == split)

    @property
    def present(self) -> tuple[Split, ...]:
        """The splits that have videos."""
        return tuple(split for split in SPLITS if (self.splits == split).any())

    @property
    def train_clips(self) -> NDArray[np.bool_]:
        """(clips,) True for the clips of training videos."""
        return np.repeat(self.splits == "train", self.lengths)

    def num_annotated(self, split: Split) -> int:
        """Labelled videos of a split, with features or without; one of unknown split counts in each."""
        return len(self.videos_of(split)) + sum(one.split in (split, None) for one in self.missing)


@dataclass(frozen=True)
class HeadData(LabelledVideos):
    """The same with the features of their clips.

    kind    labels
    single  (videos,) int64: the class of each video
    multi   (videos, K) bool: the classes of each video
    dense   (clips, K) bool: the classes that are active at the centre of each clip
    """

    sequences: Sequences
    kind: Labels = "single"
    annotations: Mapping[str, Any] = field(default_factory=dict)  # dense: what metrics.json says of them

    def rows_of(self, videos: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of `labels` that are of these videos, in their order: the videos themselves, or their clips."""
        if self.kind != "dense":
            return videos
        offsets = self.sequences.offsets
        return np.concatenate([np.arange(offsets[video], offsets[video + 1]) for video in videos])


@dataclass(frozen=True)
class ReadVideos:
    """The videos of a head that have features."""

    sequences: Sequences
    roles: tuple[Role, ...]  # one a video
    ledger: tuple[LedgerRow, ...]
    missing: tuple[Missing, ...]

    def data(self, labels: NDArray[Any], classes: Classes, *, kind: Labels, **other: Any) -> HeadData:
        return HeadData(
            video_ids=self.sequences.video_ids,
            lengths=self.sequences.lengths,
            sequences=self.sequences,
            labels=labels,
            splits=np.array([role.split for role in self.roles], dtype=str),
            classes=classes,
            ledger=self.ledger,
            kind=kind,
            **{"missing": self.missing} | other,
        )


def load_data(source: Source, settings: SequenceSettings) -> HeadData:
    """Read what a head is trained on, where labels are of whole videos.

    Raises ReelmillError, in one sentence, wherever training makes no sense.
    """
    where, labelled = source.product.path, _LABELLED[settings.labels]
    rows = read_rows(source)
    roles = assign(rows, holdout=settings.holdout, where=where, labelled=labelled)
    videos = read_videos(source, rows, roles)
    ids = {row.video_id: dict(zip(row.label_ids, row.labels or map(str, row.label_ids), strict=True)) for row in rows}
    found = [(role.split or "train", ids[role.video_id]) for role in videos.roles]
    names = {label_id: name for _, one in reversed(found) for label_id, name in one.items()}
    classes = check_classes(found, names, needed=needed_splits(rows, labelled), where=where)
    label_ids = [label_id for label_id, _ in classes]
    if settings.labels == "multi":
        labels = np.array([np.isin(label_ids, list(one)) for _, one in found])
    else:
        labels = np.searchsorted(label_ids, [role.label_id for role in videos.roles])
    return videos.data(labels, classes, kind=settings.labels)


_LABELLED: dict[Labels, Labelled] = {"single": "one", "multi": "some"}


def read_rows(source: Source) -> list[VideoRow]:
    """All rows of the manifest."""
    return [VideoRow.from_dict(row) for row in unit_table(source.store, source.unit).to_pylist()]


def read_videos(
    source: Source, rows: Sequence[VideoRow], roles: Sequence[Role], left_out: Mapping[str, LeftOut] | None = None
) -> ReadVideos:
    """The features of all videos that have a role, and the ledger of all `rows`.

    `left_out`: why rows have no role at all. Raises ReelmillError where features are missing or can't be joined.
    """
    wanted = {role.video_id: role for role in roles if not role.reason}
    sequences, ledgers = read_sequences(source.store, source.product.upstream, source.units, wanted=wanted)
    unused = {role.video_id: LeftOut(role.reason, role.message) for role in roles if role.reason}
    ledger = account(
        rows,
        ledgers,
        left_out={**unused, **(left_out or {})},
        num_items=dict(zip(sequences.video_ids, sequences.lengths.tolist(), strict=True)),
        nothing=LeftOut("no_clips", "gave no clip to train on"),
    )
    splits = {video_id: role.split for video_id, role in wanted.items()}
    missing = find_missing(splits, ledgers, found=sequences.video_ids)
    used = tuple(wanted[video_id] for video_id in sequences.video_ids)
    return ReadVideos(sequences, used, tuple(ledger), missing)


def needed_splits(rows: Sequence[VideoRow], labelled: Labelled) -> tuple[Split, ...]:
    """The splits that must have videos."""
    return ("train", "val", "test") if expects_test(rows, labelled=labelled) else ("train", "val")


def classes_of(used: Sequence[Role], *, needed: Sequence[Split], where: str) -> Classes:
    """The classes of the usable videos, where each has one; see `check_classes`."""
    names = {role.label_id: role.label for role in reversed(used)}
    found = [(role.split or "train", (role.label_id,)) for role in used]
    return check_classes(found, names, needed=needed, where=where)


def check_classes(
    found: Sequence[tuple[Split, Collection[int]]], names: Mapping[int, str], *, needed: Sequence[Split], where: str
) -> Classes:
    """(label_id, name) of all classes, by label_id; each must have something to learn from.

    `found` has the split and the label ids of each usable video, `names` the names of all label ids. Raises
    ReelmillError where there are fewer than two classes, or one without a training video, or a needed split is empty.
    """
    if not found:
        raise ReelmillError(f"{where}: no labelled video has features; see the ledger of its features for the reasons")
    if len(names) < 2:
        (name,) = names.values()
        raise ReelmillError(f"{where}: all {len(found)} usable videos are of class {name!r}; a head needs two classes")
    counts = {split: Counter(k for one, label_ids in found if one == split for k in label_ids) for split in SPLITS}
    for label_id, name in sorted(names.items()):
        if not counts["train"][label_id]:
            where_else = " and ".join(f"{counts[split][label_id]} in {split}" for split in ("val", "test"))
            raise ReelmillError(f"{where}: class {name!r} has no training video ({where_else}); {HOLDOUT}")
    check_splits([split for split, _ in found], needed=needed, where=where)
    return tuple(sorted(names.items()))


def check_splits(found: Sequence[Split], *, needed: Sequence[Split], where: str) -> None:
    """Raises ReelmillError where a needed split is none of those `found`."""
    counts = Counter(found)
    for split in needed:
        if not counts[split]:
            have = ", ".join(f"{counts[other]} in {other}" for other in needed if other != split)
            raise ReelmillError(f"{where}: no usable video is in split {split} ({have}); {HOLDOUT}")
