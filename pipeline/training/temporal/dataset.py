"""What a localization head is trained on: feature sequences at even steps, and the segments in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.temporal import StepSegments
from pipeline.training.account import LeftOut, account
from pipeline.training.annotated import (
    AnnotatedVideos,
    Missing,
    find_missing,
    join_annotations,
    require_coverage,
)
from pipeline.training.sequences import Sequences, read_sequences
from pipeline.training.splits import Role, Split, assign, expects_test
from pipeline.training.task import Source
from pipeline.training.temporal.grid import Grid, read_grid, rows_of_steps
from pipeline.units import read_labels, unit_table
from schemas.annotation import SegmentTable
from schemas.errors import ReelmillError
from schemas.heads import TemporalSettings
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow

NO_SPLIT = "none"  # of videos that are not annotated: the head says what it finds in them, too


@dataclass(frozen=True)
class TemporalData:
    """Videos that have features, in manifest order; those without annotation come with split "none"."""

    video_ids: tuple[str, ...]
    names: tuple[str, ...]  # of the annotations, or the video_id: what predictions are written under
    splits: NDArray[np.str_]  # (videos,)
    matrix: NDArray[np.float32]  # (all steps, D)
    offsets: NDArray[np.int64]  # (videos + 1,)
    blocks: tuple[int, ...]
    first_s: NDArray[np.float64]  # (videos,) the instant of step 0
    grid: Grid
    segments: tuple[StepSegments, ...]  # of each video, labels index into classes
    classes: tuple[str, ...]
    truth: SegmentTable  # of the annotated videos that have features, as the annotations have them
    missing: tuple[Missing, ...]
    facts: Mapping[str, Any]  # what metrics.json says of the annotations
    ledger: tuple[LedgerRow, ...]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each video."""
        return np.diff(self.offsets)

    def videos_of(self, split: str) -> NDArray[np.int64]:
        """Indices of the videos of a split."""
        return np.flatnonzero(self.splits == split)

    @property
    def train_steps(self) -> NDArray[np.bool_]:
        """(all steps,) True for the steps of training videos."""
        return np.repeat(self.splits == "train", self.lengths)

    def num_annotated(self, split: str) -> int:
        """Annotated videos of a split, with features or without; one of unknown split counts in each."""
        return len(self.videos_of(split)) + sum(one.split in (split, None) for one in self.missing)


def load_temporal(source: Source, settings: TemporalSettings) -> TemporalData:
    """Read features and segments. Raises ReelmillError, in one sentence, where more features are missing than are
    allowed to, steps are uneven or training makes no sense; UsageError where the annotations can't be read."""
    where, store = source.product.path, source.store
    rows = [VideoRow.from_dict(row) for row in unit_table(store, source.unit).to_pylist()]
    annotated = join_annotations(settings.annotations, rows, labels=read_labels(store), where=where)
    roles = assign(annotated.rows, holdout=settings.holdout, where=where, labelled="any")
    trainable = {role.video_id: role for role in roles if not role.reason}
    sequences, ledgers = read_sequences(
        store, source.product.upstream, source.units, wanted=[row.video_id for row in rows]
    )
    splits = {role.video_id: role.split for role in roles if not role.reason}
    missing = find_missing(splits, ledgers, found=sequences.video_ids) + annotated.absent
    require_coverage(missing, len(splits) + len(annotated.absent), allowance=settings.missing, where=where)
    data = _joined(sequences, annotated, trainable, where=where)
    needed: tuple[Split, ...] = (
        ("train", "val", "test") if expects_test(annotated.rows, labelled="any") else ("train", "val")
    )
    for split in needed:
        if split not in data.splits:
            raise ReelmillError(
                f"{where}: no annotated video with features is in split {split}; annotate more videos, or change "
                "holdout.fraction or holdout.seed"
            )
    unused = {role.video_id: LeftOut(role.reason, role.message) for role in roles if role.reason}
    used = set(trainable) & set(data.video_ids)
    unannotated = {
        video_id: LeftOut("not_trained", f"{why.message}; what the head finds in it is in its predictions")
        for video_id, why in annotated.left_out.items()
    }
    steps = dict(zip(data.video_ids, data.lengths.tolist(), strict=True))
    ledger = account(
        rows,
        ledgers,
        left_out=unused | unannotated,
        num_items={video_id: steps[video_id] for video_id in used},
        nothing=LeftOut("no_clips", "gave no features to train on"),
    )
    return replace(data, missing=missing, ledger=tuple(ledger), facts=_facts(annotated, data))


def _joined(
    sequences: Sequences, annotated: AnnotatedVideos, trainable: Mapping[str, Role], *, where: str
) -> TemporalData:
    """The steps and segments of all videos that have features."""
    place = dict(zip((row.video_id for row in annotated.rows), annotated.video.tolist(), strict=True))
    grid = read_grid(sequences.windows, sequences.offsets, where=where)
    rows, lengths, first_s = [], [], []
    for index, video_id in enumerate(sequences.video_ids):
        start, stop = sequences.offsets[index : index + 2]
        start_s = sequences.windows[start:stop, 0]
        of_steps = rows_of_steps(start_s, grid, where=where, video_id=video_id)
        rows.append(start + of_steps)
        lengths.append(len(of_steps))
        first_s.append(grid.first_s(float(start_s[0])))
    videos = [place.get(video_id) for video_id in sequences.video_ids]
    splits = [trainable[v].split if v in trainable else NO_SPLIT for v in sequences.video_ids]
    used = np.array(
        [v for v, split in zip(videos, splits, strict=True) if v is not None and split != NO_SPLIT], np.int64
    )
    truth = annotated.truth.select(np.isin(annotated.truth.video, used))
    classes = _classes(truth, videos, splits, where=where)
    segments = [
        _segments(truth, video, classes, first_s=first, grid=grid, steps=steps)
        for video, first, steps in zip(videos, first_s, lengths, strict=True)
    ]
    return TemporalData(
        video_ids=sequences.video_ids,
        names=tuple(
            annotated.truth.videos[video] if video is not None else video_id
            for video, video_id in zip(videos, sequences.video_ids, strict=True)
        ),
        splits=np.array(splits, dtype=str),
        matrix=sequences.matrix[np.concatenate(rows)],
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        blocks=sequences.blocks,
        first_s=np.array(first_s),
        grid=grid,
        segments=tuple(segments),
        classes=classes,
        truth=truth,
        missing=(),
        facts={},
        ledger=(),
    )


def _segments(
    truth: SegmentTable,
    video: int | None,
    classes: Sequence[str],
    *,
    first_s: float,
    grid: Grid,
    steps: int,
) -> StepSegments:
    """A video's segments in steps; of those that reach beyond its windows the part inside. Ambiguous ones are no
    examples."""
    index = {name: k for k, name in enumerate(classes)}
    rows = np.flatnonzero((truth.video == video) & (truth.label >= 0)) if video is not None else np.zeros(0, np.int64)
    span = (np.stack([truth.start_s[rows], truth.end_s[rows]], axis=1) - first_s) / grid.step_s
    half = grid.window_s / grid.step_s / 2
    span = span.clip(-half, steps - 1 + half)
    inside = span[:, 1] - span[:, 0] > 1e-3
    labels = [index[truth.labels[label]] for label in truth.label[rows[inside]]]
    return StepSegments(
        span=torch.from_numpy(span[inside].astype(np.float32)).reshape(-1, 2),
        label=torch.tensor(labels, dtype=torch.int64),
    )


def _classes(
    truth: SegmentTable, videos: Sequence[int | None], splits: Sequence[str | None], *, where: str
) -> tuple[str, ...]:
    """The classes of the segments, by name; each must have one to learn from."""
    counts: dict[str | None, Counter[str]] = {}
    split_of = dict(zip(videos, splits, strict=True))
    certain = truth.certain()
    for video, label in zip(certain.video.tolist(), certain.label.tolist(), strict=True):
        counts.setdefault(split_of[video], Counter())[certain.labels[label]] += 1
    names = sorted({name for of_split in counts.values() for name in of_split})
    if not names:
        raise ReelmillError(f"{where}: the annotated videos that have features have no segment")
    for name in names:
        if not counts.get("train", Counter())[name]:
            elsewhere = " and ".join(f"{counts.get(split, Counter())[name]} in {split}" for split in ("val", "test"))
            raise ReelmillError(
                f"{where}: class {name!r} has no segment in a training video ({elsewhere}); annotate more videos, or "
                "change holdout.seed"
            )
    return tuple(names)


def _facts(annotated: AnnotatedVideos, data: TemporalData) -> dict[str, Any]:
    kept = sum(len(one) for one in data.segments)
    return {
        "segments": len(data.truth.certain()),
        "segments_outside_features": len(data.truth.certain()) - kept,
        "left_out": dict(sorted(Counter(why.reason for why in annotated.left_out.values()).items())),
        "dropped": annotated.report.as_json(),
    }
