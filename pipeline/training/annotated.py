"""Videos that have annotated segments: joined to the manifest's rows, with their splits; and what is missing of them.

A video counts as annotated where the annotations name it, with segments or none, but not in a split in which no video
has a segment: its annotations are withheld (ActivityNet's test videos).

Splits are the manifest's, else those of the annotations. Where val and test are annotated and train is not, val is what
is trained on, as in THUMOS14 and MultiTHUMOS.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations import Joined, Report, join_videos, open_annotations
from pipeline.textlist import Split, parse_split
from pipeline.training.account import LeftOut
from pipeline.training.sequences import Ledgers
from schemas.annotation import SegmentTable
from schemas.annotation_files import Annotations, ManifestAnnotations
from schemas.budget import allowed
from schemas.errors import ReelmillError, UsageError
from schemas.manifest import VideoRow

MOST_NAMED = 5  # missing videos in an error


@dataclass(frozen=True, slots=True)
class Missing:
    """An annotated video without features."""

    name: str  # video_id, or the annotations' name where the manifest lacks it
    split: Split | None  # None: unknown
    message: str


@dataclass(frozen=True)
class AnnotatedVideos:
    """The truth, and which of the manifest's rows have a part in it."""

    truth: SegmentTable
    report: Report  # what of the annotations was dropped
    rows: tuple[VideoRow, ...]  # annotated, in manifest order; with the split that they have here, None where none
    video: NDArray[np.int64]  # (rows,) into truth.videos
    left_out: dict[str, LeftOut]  # video_id -> why, for the other rows of the manifest
    absent: tuple[Missing, ...]  # annotated videos that the manifest lacks


def join_annotations(
    settings: Annotations, rows: Sequence[VideoRow], *, labels: Sequence[str], where: str
) -> AnnotatedVideos:
    """Read the segments of a config section and find their videos among the manifest's `rows`.

    `labels` are the manifest's label names by id; `where` names the head in errors. Raises UsageError where the
    annotations can't be read, hold no segments or name a row twice, ReelmillError where no row is annotated.
    """
    try:
        opened = open_annotations(settings, rows=rows, labels=labels)
        truth = opened.truth
        if not isinstance(truth, SegmentTable):
            raise UsageError(f"annotations of kind {settings.kind} are boxes, and this head takes segments in time")
        joined = join_videos(truth.videos, rows, subset=truth.subset)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    splits = _splits(truth, rows, joined)
    split_of = dict(zip(truth.videos, splits, strict=True))
    public = {splits[video] for video in np.unique(truth.video)}
    used = [(rows[row], video) for row, video in zip(joined.row, joined.video, strict=True) if splits[video] in public]
    if not used:
        raise ReelmillError(f"{where}: {_nothing(settings, truth, rows)}")
    return AnnotatedVideos(
        truth=truth,
        report=opened.report,
        rows=tuple(replace(row, split=splits[video]) for row, video in used),
        video=np.array([video for _, video in used], dtype=np.int64),
        left_out=_left_out(rows, joined, splits, public),
        absent=tuple(
            Missing(name, split_of[name], "not in the manifest")
            for name in joined.annotation_without_video
            if split_of[name] in public
        ),
    )


def find_missing(
    wanted: Mapping[str, Split | None], ledgers: Ledgers, *, found: Collection[str]
) -> tuple[Missing, ...]:
    """Those of the `wanted` videos (video_id -> split) that are not among those `found` in the features, and why."""
    found = frozenset(found)
    why: dict[str, str] = {}
    for path, ledger in ledgers.items():
        for line in ledger:
            if line.status in ("failed", "filtered"):
                why.setdefault(line.video_id, f"{path}: {line.message or line.reason}")
    return tuple(
        Missing(video_id, split, why.get(video_id, "gave no clip"))
        for video_id, split in wanted.items()
        if video_id not in found
    )


def require_coverage(missing: Sequence[Missing], total: int, *, allowance: int | str, where: str) -> None:
    """Raises ReelmillError, naming them, where more of `total` annotated videos miss features than are allowed to."""
    if len(missing) <= allowed(allowance, total):
        return
    named = ", ".join(f"{one.name} ({one.message})" for one in missing[:MOST_NAMED])
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    raise ReelmillError(
        f"{where}: {len(missing)} of {total} annotated videos have no features: {named}{more}; make their features, or "
        f"allow for that many with `missing: {len(missing)}`"
    )


def _splits(truth: SegmentTable, rows: Sequence[VideoRow], joined: Joined) -> list[Split | None]:
    """The split of each video of the annotations."""
    splits = [_parse(name) for name in truth.subset or [None] * len(truth.videos)]
    for row, video in zip(joined.row, joined.video, strict=True):
        splits[video] = _parse(rows[row].split) or splits[video]
    annotated = {splits[video] for video in np.unique(truth.video)}
    if "train" not in splits and {"val", "test"} <= annotated:
        splits = ["train" if split == "val" else split for split in splits]
    return splits


def _parse(subset: str | None) -> Split | None:
    try:
        return parse_split(subset or "")
    except ValueError:
        return None


def _left_out(
    rows: Sequence[VideoRow], joined: Joined, splits: Sequence[Split | None], public: Collection[Split | None]
) -> dict[str, LeftOut]:
    left_out = {name: LeftOut("no_annotation", "is not annotated") for name in joined.video_without_annotation}
    for row, video in zip(joined.row, joined.video, strict=True):
        if splits[video] not in public:
            split = splits[video] or "none"
            message = f"has no segment, like all videos of its split ({split}): their annotations are withheld"
            left_out[rows[row].video_id] = LeftOut("withheld", message)
    return left_out


def _nothing(settings: Annotations, truth: SegmentTable, rows: Sequence[VideoRow]) -> str:
    if isinstance(settings, ManifestAnnotations):
        return (
            f"none of the {len(rows)} videos of the manifest has a segment; name the file that has them, e.g. "
            "annotations: {kind: activitynet, json: …}"
        )
    if not len(truth):
        return "the annotations have no segment"
    return (
        f"none of the {len(truth.videos)} annotated videos is in the manifest ({truth.videos[0]!r} is one, and the "
        f"manifest has {rows[0].video_id!r})"
    )
