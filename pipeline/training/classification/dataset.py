"""What a head is trained on: sequences with labels and splits, and what became of every manifest row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.training.account import LeftOut, account
from pipeline.training.sequences import Sequences, read_sequences
from pipeline.training.splits import SPLITS, Role, Split, assign, expects_test
from pipeline.training.task import Source
from pipeline.units import unit_table
from schemas.errors import ReelmillError
from schemas.heads import SequenceSettings
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow


@dataclass(frozen=True)
class LabelledVideos:
    """All videos that a head uses, in manifest order. Class k is classes[k]; labels index into it."""

    video_ids: tuple[str, ...]
    lengths: NDArray[np.int64]  # (videos,) clips of each
    labels: NDArray[np.int64]  # (videos,)
    splits: NDArray[np.str_]  # (videos,) "train", "val" or "test"
    classes: tuple[tuple[int, str], ...]  # (label_id, name), by label_id
    ledger: tuple[LedgerRow, ...]  # one row per manifest row

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


@dataclass(frozen=True)
class HeadData(LabelledVideos):
    """The same with the features of their clips."""

    sequences: Sequences


def load_data(source: Source, settings: SequenceSettings) -> HeadData:
    """Read what a head is trained on. Raises ReelmillError, in one sentence, wherever training makes no sense."""
    product = source.product
    rows = [VideoRow.from_dict(row) for row in unit_table(source.store, source.unit).to_pylist()]
    roles = assign(rows, holdout=settings.holdout, where=product.path)
    wanted = [role.video_id for role in roles if not role.reason]
    sequences, ledgers = read_sequences(source.store, product.upstream, source.units, wanted=wanted)
    by_id = {role.video_id: role for role in roles}
    used = [by_id[video_id] for video_id in sequences.video_ids]
    ledger = account(
        rows,
        ledgers,
        left_out={role.video_id: LeftOut(role.reason, role.message) for role in roles if role.reason},
        num_items=dict(zip(sequences.video_ids, sequences.lengths.tolist(), strict=True)),
        nothing=LeftOut("no_clips", "gave no clip to train on"),
    )
    needed: tuple[Split, ...] = ("train", "val", "test") if expects_test(rows) else ("train", "val")
    classes = classes_of(used, needed=needed, where=product.path)
    index = {label_id: k for k, (label_id, _) in enumerate(classes)}
    return HeadData(
        video_ids=sequences.video_ids,
        lengths=sequences.lengths,
        sequences=sequences,
        labels=np.array([index[role.label_id] for role in used], dtype=np.int64),
        splits=np.array([role.split for role in used], dtype=str),
        classes=classes,
        ledger=tuple(ledger),
    )


def classes_of(used: Sequence[Role], *, needed: Sequence[Split], where: str) -> tuple[tuple[int, str], ...]:
    """(label_id, name) of the classes of the usable videos; each must have something to learn from.

    Raises ReelmillError where there are fewer than two, or one without a training video, or a needed split is empty.
    """
    counts: dict[str, Counter[int]] = {split: Counter() for split in SPLITS}
    names: dict[int, str] = {}
    for role in used:
        counts[role.split or "train"][role.label_id] += 1
        names.setdefault(role.label_id, role.label)
    holdout = "label more videos, or change holdout.fraction or holdout.seed"
    if not used:
        raise ReelmillError(f"{where}: no labelled video has features; see the ledger of its features for the reasons")
    if len(names) < 2:
        (name,) = names.values()
        raise ReelmillError(f"{where}: all {len(used)} usable videos are of class {name!r}; a head needs two classes")
    for label_id, name in sorted(names.items()):
        if not counts["train"][label_id]:
            where_else = " and ".join(f"{counts[split][label_id]} in {split}" for split in ("val", "test"))
            raise ReelmillError(f"{where}: class {name!r} has no training video ({where_else}); {holdout}")
    for split in needed:
        if not counts[split]:
            have = ", ".join(f"{counts[other].total()} in {other}" for other in needed if other != split)
            raise ReelmillError(f"{where}: no usable video is in split {split} ({have}); {holdout}")
    return tuple(sorted(names.items()))
