"""Which videos a head may use, and which split each belongs to: from the manifest alone.

    source has            train                 val                     test
    train val test        as given              as given                as given
    train test            the rest of train     held out of train       as given
    train val             as given              as given                none: val is reported, and says so
    train, or no split    the rest              held out                held out

Holding out is a hash of (seed, video_id), so a video keeps its split however the source grows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.textlist import Split as Split
from pipeline.training.seeds import share_of
from schemas.errors import ReelmillError, UsageError
from schemas.heads import Holdout
from schemas.manifest import VideoRow

SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Role:
    """What a manifest row is to a head: its split and its one class, or the reason why the head leaves it out."""

    video_id: str
    split: Split | None = None
    label_id: int = -1  # of a row with exactly one label
    label: str = ""
    reason: str = ""  # no_label, multi_label or no_split; "" for a row that the head uses
    message: str = ""


Labelled = Literal["one", "some", "any"]  # how many labels a row must have: exactly one, one or more, none or more


def assign(rows: Sequence[VideoRow], *, holdout: Holdout, where: str, labelled: Labelled = "one") -> list[Role]:
    """The role of each manifest row, in order. `where` names the head in errors.

    Raises ReelmillError where no row is labelled as the head needs, or where those rows have a split but none is train.
    """
    fit = [row for row in rows if _fits(row, labelled)]
    if not fit:
        raise ReelmillError(_no_labels(rows, where))
    given = {row.split for row in fit}
    if given - {None} and "train" not in given:
        have = " and ".join(sorted(split for split in given if split))
        raise ReelmillError(f"{where}: the manifest has labelled {have} videos but none of split train; index them too")
    return [_role(row, given=given, holdout=holdout, labelled=labelled) for row in rows]


def expects_test(rows: Sequence[VideoRow], *, labelled: Labelled = "one") -> bool:
    """Whether there ought to be test videos: all sources have some, but those that come with train and val alone."""
    given = {row.split for row in rows if _fits(row, labelled)}
    return "test" in given or "val" not in given


def evaluated_on(present: Collection[str]) -> Split:
    """The split whose numbers are a head's: test, or val where the source has no test videos."""
    return "test" if "test" in present else "val"


def chosen_split(present: Collection[str], split: str | None, *, noun: str, where: str) -> Split:
    """The split that is asked for, or the one whose numbers are the head's. Raises UsageError where that is empty."""
    if split is None:
        return evaluated_on(present)
    for name in SPLITS:
        if name == split and name in present:
            return name
    have = ", ".join(name for name in SPLITS if name in present)
    raise UsageError(f"{where}: no {noun} is in split {split}; this dataset has {have}")


def _fits(row: VideoRow, labelled: Labelled) -> bool:
    return labelled == "any" or len(row.label_ids) == 1 or (labelled == "some" and len(row.label_ids) > 0)


def _role(row: VideoRow, *, given: set[str | None], holdout: Holdout, labelled: Labelled) -> Role:
    if not row.label_ids and labelled != "any":
        return Role(row.video_id, reason="no_label", message="has no label")
    if len(row.label_ids) > 1 and labelled == "one":
        message = f"has {len(row.label_ids)} labels; this head takes one class a video"
        return Role(row.video_id, reason="multi_label", message=message)
    if row.split is None and given != {None}:
        return Role(row.video_id, reason="no_split", message="has no split, though other videos of the source have one")
    split = _split(row, given=given, holdout=holdout)
    if len(row.label_ids) != 1:
        return Role(row.video_id, split=split)
    label = row.labels[0] if row.labels else str(row.label_ids[0])
    return Role(row.video_id, split=split, label_id=row.label_ids[0], label=label)


def _split(row: VideoRow, *, given: set[str | None], holdout: Holdout) -> Split:
    if row.split in ("val", "test"):
        return "val" if row.split == "val" else "test"
    has_val, has_test = "val" in given, "test" in given
    if not has_val and not has_test and share_of(holdout.seed, "test", row.video_id) < holdout.fraction:
        return "test"
    if not has_val and share_of(holdout.seed, "val", row.video_id) < holdout.fraction:
        return "val"
    return "train"


def _no_labels(rows: Sequence[VideoRow], where: str) -> str:
    multi = sum(len(row.label_ids) > 1 for row in rows)
    if multi:
        return (
            f"{where}: no video has exactly one label ({multi} of {len(rows)} have several); this head is for "
            "single-label sources"
        )
    return f"{where}: none of the {len(rows)} videos of the manifest has a label; index a source that has labels"
