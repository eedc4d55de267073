"""What a localization head is trained on: feature sequences at even steps, and the segments in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.annotations import public_names
from pipeline.annotations.report import Problem, Report
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
from pipeline.training.splits import Split, assign, expects_test
from pipeline.training.task import Source
from pipeline.training.temporal.grid import Grid, read_grid, rows_of_steps
from pipeline.units import read_labels, unit_table
from schemas.annotation import AMBIGUOUS, SegmentTable
from schemas.errors import ReelmillError
from schemas.heads import TemporalSettings
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow

NO_SPLIT = "none"  # of videos that are not annotated: the head says what it finds in them, too
SHORTEST_STEPS = 1e-3  # a segment of which features cover less is none
NO_ROWS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class TemporalData:
    """Videos that have features, in manifest order; those without annotation come with split "none"."""

    video_ids: tuple[str, ...]
    names: tuple[str, ...]  # of the annotations, or else public: what predictions are written under
    splits: NDArray[np.str_]  # (videos,)
    matrix: NDArray[np.float32]  # (all steps, D)
    offsets: NDArray[np.int64]  # (videos + 1,)
    blocks: tuple[int, ...]
    covered_s: NDArray[np.float64]  # (videos, 2) from where the first window begins to where the last one ends
    grid: Grid
    segments: tuple[StepSegments, ...]  # of each video, labels index into classes
    classes: tuple[str, ...]
    truth: SegmentTable  # of the annotated videos that have features, as the annotations have them
    missing: tuple[Missing, ...]
    facts: Mapping[str, Any]  # what metrics.json says of the annotations
    ledger: tuple[LedgerRow, ...]

    @property
    def first_s(self) -> NDArray[np.float64]:
        """(videos,) the instant of step 0."""
        return self.covered_s[:, 0] + self.grid.window_s / 2

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
    splits = {role.video_id: role.split for role in roles if role.split}
    sequences, ledgers = read_sequences(
        store, source.product.upstream, source.units, wanted=[row.video_id for row in rows]
    )
    missing = find_missing(splits, ledgers, found=sequences.video_ids) + annotated.absent
    require_coverage(missing, len(splits) + len(annotated.absent), allowance=settings.missing, where=where)
    names = dict(zip((row.video_id for row in rows), public_names(rows), strict=True))
    data = _joined(sequences, annotated, splits, names=names, where=where)
    needed: tuple[Split, ...] = ("train", "val")
    if expects_test(annotated.rows, labelled="any"):
        needed = ("train", "val", "test")
    _require_examples(data, needed, where=where)
    left_out = {role.video_id: LeftOut(role.reason, role.message) for role in roles if role.reason}
    left_out |= annotated.left_out
    steps = dict(zip(data.video_ids, data.lengths.tolist(), strict=True))
    ledger = account(
        rows,
        ledgers,
        left_out={video_id: _not_trained(why) for video_id, why in left_out.items()},
        num_items={video_id: steps.get(video_id, 0) for video_id in splits},
        nothing=LeftOut("no_clips", "gave no features to train on"),
    )
    facts = {
        "segments": len(data.truth.certain()),
        "left_out": dict(sorted(Counter(why.reason for why in left_out.values()).items())),
        "dropped": annotated.report.as_json(),
    }
    return replace(data, missing=missing, ledger=tuple(ledger), facts=facts)


def _not_trained(why: LeftOut) -> LeftOut:
    return LeftOut("not_trained", f"{why.message}; what the head finds in it is in its predictions")


def _joined(
    sequences: Sequences,
    annotated: AnnotatedVideos,
    splits: Mapping[str, Split],
    *,
    names: Mapping[str, str],
    where: str,
) -> TemporalData:
    """The steps and segments of all videos that have features; segments that these do not cover are noted in the
    annotations' report."""
    place = dict(zip((row.video_id for row in annotated.rows), annotated.video.tolist(), strict=True))
    grid = read_grid(sequences.windows, sequences.offsets, where=where)
    rows, lengths, covered_s = [], [], []
    for index, video_id in enumerate(sequences.video_ids):
        start, stop = sequences.offsets[index : index + 2]
        windows = sequences.windows[start:stop]
        of_steps = rows_of_steps(windows[:, 0], grid, where=where, video_id=video_id)
        rows.append(start + of_steps)
        lengths.append(len(of_steps))
        covered_s.append((windows[0, 0], windows[:, 2].max()))
    used = [place[video_id] for video_id in sequences.video_ids if video_id in splits]
    truth = annotated.truth.select(np.isin(annotated.truth.video, used))
    data = TemporalData(
        video_ids=sequences.video_ids,
        names=tuple(
            truth.videos[place[video_id]] if video_id in place else names[video_id] for video_id in sequences.video_ids
        ),
        splits=np.array([splits.get(video_id, NO_SPLIT) for video_id in sequences.video_ids], dtype=str),
        matrix=sequences.matrix[np.concatenate(rows)],
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        blocks=sequences.blocks,
        covered_s=np.array(covered_s),
        grid=grid,
        segments=(),
        classes=tuple(sorted({truth.labels[label] for label in truth.certain().label})),
        truth=truth,
        missing=(),
        facts={},
        ledger=(),
    )
    videos = [place[video_id] if video_id in splits else None for video_id in sequences.video_ids]
    segments = [_segments(data, index, video, annotated.report) for index, video in enumerate(videos)]
    return replace(data, segments=tuple(segments))


def _segments(data: TemporalData, index: int, video: int | None, report: Report) -> StepSegments:
    """The segments of video `index` of the data, which is `video` of the truth, in steps: those parts of them that its
    windows cover. Ambiguous ones are no examples."""
    truth = data.truth
    rows = np.flatnonzero((truth.video == video) & (truth.label != AMBIGUOUS)) if video is not None else NO_ROWS
    span_s = np.stack([truth.start_s[rows], truth.end_s[rows]], axis=1)  # (M, 2)
    inside_s = span_s.clip(*data.covered_s[index])
    span = data.grid.steps(inside_s, first_s=data.first_s[index]).astype(np.float32)
    kept = span[:, 1] - span[:, 0] > SHORTEST_STEPS
    for at in np.flatnonzero((inside_s != span_s).any(axis=1)):
        _note(report, data, index, rows[at], is_kept=bool(kept[at]))
    classes = {name: k for k, name in enumerate(data.classes)}
    labels = [classes[truth.labels[label]] for label in truth.label[rows[kept]]]
    return StepSegments(span=torch.from_numpy(span[kept]), label=torch.tensor(labels, dtype=torch.int64))


def _note(report: Report, data: TemporalData, index: int, row: int, *, is_kept: bool) -> None:
    """Note a segment of the truth that reaches beyond the features of video `index`."""
    truth = data.truth
    start_s, end_s = data.covered_s[index]
    kind: Problem = "segment_beyond_features" if is_kept else "segment_outside_features"
    what = f"segment [{truth.start_s[row]:g}, {truth.end_s[row]:g}] is {'only partly' if is_kept else 'not'} covered"
    name, label = truth.videos[truth.video[row]], truth.labels[truth.label[row]]
    report.add(kind, name, f"{label}: {what} by features, which are of [{start_s:g}, {end_s:g}]")


def _require_examples(data: TemporalData, needed: Sequence[Split], *, where: str) -> None:
    """Raises ReelmillError where a split has no segment, or a class none to learn from."""
    more = "annotate more videos, or change holdout.fraction or holdout.seed"
    if not data.classes:
        raise ReelmillError(f"{where}: the annotated videos that have features have no segment")
    counts = {split: np.zeros(len(data.classes), dtype=np.int64) for split in get_args(Split)}
    for split, segments in zip(data.splits, data.segments, strict=True):
        if split != NO_SPLIT:
            counts[split] += np.bincount(segments.label.numpy(), minlength=len(data.classes))
    for split in needed:
        if not counts[split].any():
            num = len(data.videos_of(split))
            what = f"features cover no segment of the {num} annotated videos of split {split}"
            if not num:
                what = f"no annotated video with features is in split {split}"
            raise ReelmillError(f"{where}: {what}; {more}")
    for k, name in enumerate(data.classes):
        if not counts["train"][k]:
            elsewhere = " and ".join(f"{counts[split][k]} in {split}" for split in ("val", "test"))
            raise ReelmillError(f"{where}: class {name!r} has no segment in a training video ({elsewhere}); {more}")
