"""What a detection head is trained on: keyframes, each with the map that answers for it and the boxes in its view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.annotations.ava import ActionList
from pipeline.heads.roi import KeyTargets
from pipeline.training.account import LeftOut, account
from pipeline.training.annotated import MOST_NAMED, Missing, find_missing
from pipeline.training.detection.actors import actors_of, classes_of, target_of
from pipeline.training.detection.given import GivenBoxes, instant_of, read_given
from pipeline.training.detection.headers import with_headers
from pipeline.training.detection.maps import Maps, read_maps
from pipeline.training.detection.truth import (
    AnnotatedBoxes,
    boxes_of_keyframes,
    first_seconds,
    join_boxes,
    with_rates,
)
from pipeline.training.detection.view import into_view
from pipeline.training.sequences import Ledgers
from pipeline.training.splits import Split, expects_test
from pipeline.training.task import Source
from pipeline.units import unit_table
from schemas.annotation import BoxTable, TubeSet
from schemas.annotation_files import AVAAnnotations
from schemas.budget import allowed
from schemas.errors import ReelmillError
from schemas.heads import RoIHead
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow

NO_SPLIT = "none"  # of videos that are not trained on: the head says what it finds in them, too

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MissingKeys:
    """Annotated keyframes of one video that have no map; of tubes, which have none without maps, the video itself."""

    name: str  # video_id, or the annotations' name where the manifest lacks it
    split: Split | None  # None: unknown
    count: int
    total: int
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.count} of {self.total}: {self.message}"


@dataclass(frozen=True)
class Keyframes:
    """K instants of videos, and the maps that answer for them: by video and second."""

    video: Ints  # (K,) into the maps' videos
    second: Floats  # (K,)
    row: Ints  # (K,) into the maps

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class DetectionData:
    """Keyframes that have maps; of videos without annotation or split with split "none" and without boxes."""

    maps: Maps
    names: tuple[str, ...]  # of the maps' videos: the annotations', or the video_id
    video_splits: tuple[str, ...]
    first_s: Floats  # (videos,) when a video's first frame is shown
    keys: Keyframes
    key_step: Floats  # (K,) in the map
    splits: NDArray[np.str_]  # (K,)
    targets: tuple[KeyTargets, ...]  # (K,) boxes in shares of the view, labels index into classes
    given: tuple[tuple[Tensor, Tensor], ...] | None  # (K,) boxes (B, 4) of the view and scores (B,); None: learned
    classes: tuple[tuple[int, str], ...]  # (label of the truth, name)
    truth: BoxTable  # at the keyframes of annotated videos, in shares of the frame
    tubes: TubeSet | None
    actions: ActionList | None
    missing: tuple[MissingKeys, ...]
    facts: Mapping[str, Any]
    ledger: tuple[LedgerRow, ...]

    def keys_of(self, split: str) -> Ints:
        """Indices of the keyframes of a split."""
        return np.flatnonzero(self.splits == split)

    def videos_of(self, split: str) -> Ints:
        """Indices of the maps' videos of a split."""
        return np.flatnonzero(np.array(self.video_splits) == split)

    @property
    def counted(self) -> str:
        """What coverage counts."""
        return "keyframes" if self.tubes is None else "videos"

    def coverage(self, split: str) -> tuple[int, int]:
        """(covered, annotated) keyframes, or of tubes videos; a video of unknown split counts in each."""
        covered = len(self.keys_of(split) if self.tubes is None else self.videos_of(split))
        return covered, covered + sum(one.count for one in self.missing if one.split in (split, None))


def load_detection(source: Source, settings: RoIHead) -> DetectionData:
    """Read keyframes and boxes; no map yet. Raises ReelmillError, in one sentence, where more maps are missing than are
    allowed to or training makes no sense; UsageError where the annotations can't be read."""
    where, store = source.product.path, source.store
    rows = [VideoRow.from_dict(row) for row in unit_table(store, source.unit).to_pylist()]
    annotated = join_boxes(settings.annotations, rows, holdout=settings.holdout, where=where)
    maps, ledgers = read_maps(store, source.product.upstream, source.units, where=where)
    given = _read_given(settings, rows, where=where)
    keys, missing = _keyframes(annotated, maps, given, ledgers)
    _require_coverage(missing, annotated, keys, maps, allowance=settings.missing, where=where)
    video_splits = [_split_of(video_id, annotated) for video_id in maps.video_ids]
    splits = np.array(video_splits, dtype=str)[keys.video]
    first_s = first_seconds(maps, {row.video_id: row for row in rows})
    tubes = None
    if annotated.tubes is not None:
        tubes = with_rates(annotated.tubes, annotated, maps, first_s)
        tubes = with_headers(tubes, annotated, maps, where=where)
    names = tuple(annotated.name_or_id(video_id) for video_id in maps.video_ids)
    truth, owner = _truth(annotated, tubes, names, keys, splits, first_s, where=where)
    actors = [actors_of(truth, owner, key, maps.view[row]) for key, row in enumerate(keys.row)]
    classes = classes_of(truth, actors, splits, where=where)
    targets = tuple(target_of(one, classes) for one in actors)
    _require_boxes(targets, splits, annotated, where=where)
    ledger = account(
        rows,
        ledgers,
        left_out=annotated.left_out,
        num_items=Counter(maps.video_ids[video] for video in keys.video[splits != NO_SPLIT]),
        nothing=LeftOut("no_clips", "gave no map at an annotated keyframe"),
    )
    data = DetectionData(
        maps=maps,
        names=names,
        video_splits=tuple(video_splits),
        first_s=first_s,
        keys=keys,
        key_step=maps.step_at(keys.row, keys.second),
        splits=splits,
        targets=targets,
        given=_given(settings, given, keys, maps, targets),
        classes=classes,
        truth=truth,
        tubes=tubes,
        actions=annotated.opened.actions,
        missing=missing,
        facts={},
        ledger=tuple(ledger),
    )
    seen = sum(len(rows) for actor in actors for rows in actor.labels)
    return replace(data, facts=_facts(annotated, given, data, num_seen=seen))


def _split_of(video_id: str, annotated: AnnotatedBoxes) -> str:
    role = annotated.roles.get(video_id)
    return (role.split if role else None) or NO_SPLIT


# ---------------------------------------------------------------- keyframes


def _keyframes(
    annotated: AnnotatedBoxes, maps: Maps, given: GivenBoxes | None, ledgers: Ledgers
) -> tuple[Keyframes, tuple[MissingKeys, ...]]:
    """The instants that maps answer for, and those annotated that they don't."""
    looked_at = None if annotated.tubes is not None else annotated.seconds_looked_at()
    columns: list[tuple[Ints, Floats, Ints]] = []
    missing: list[MissingKeys] = []
    for video, video_id in enumerate(maps.video_ids):
        split = _split_of(video_id, annotated)
        second = np.unique(maps.windows[maps.of_video(video), 1])
        if split == NO_SPLIT and given is not None:
            second = given.seconds.get(video_id, np.zeros(0))
        elif split != NO_SPLIT and looked_at is not None:
            second = looked_at.get(annotated.name_or_id(video_id), np.zeros(0))
        row = maps.answer(video, second)
        if split != NO_SPLIT and (row < 0).any():
            missing.append(_unanswered(video_id, split, second, row))
        here = row >= 0
        columns.append((np.full(int(here.sum()), video, dtype=np.int64), second[here], row[here]))
    none: tuple[Ints, Floats, Ints] = (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    keys = Keyframes(*(np.concatenate(column) for column in zip(none, *columns, strict=True)))
    wanted = {video_id: role.split for video_id, role in annotated.roles.items() if not role.reason}
    without = find_missing(wanted, ledgers, found=maps.video_ids)
    for one in (*without, *(Missing(name, None, "not in the manifest") for name in annotated.absent)):
        count = 1 if looked_at is None else len(looked_at.get(annotated.name_or_id(one.name), ()))
        if count:
            missing.append(MissingKeys(one.name, one.split, count, count, one.message))
    return keys, tuple(missing)


def _unanswered(video_id: str, split: str, second: Floats, row: Ints) -> MissingKeys:
    gone = second[row < 0]
    named = ", ".join(f"{one:g} s" for one in gone[:MOST_NAMED]) + (", …" if len(gone) > MOST_NAMED else "")
    return MissingKeys(video_id, split, len(gone), len(second), f"in no window: {named}")  # type: ignore[arg-type]


def _require_coverage(
    missing: Sequence[MissingKeys],
    annotated: AnnotatedBoxes,
    keys: Keyframes,
    maps: Maps,
    *,
    allowance: int | str,
    where: str,
) -> None:
    """Raises ReelmillError, naming them, where more keyframes (of tubes: videos) miss maps than are allowed to."""
    gone = sum(one.count for one in missing)
    is_used = np.array([_split_of(video_id, annotated) != NO_SPLIT for video_id in maps.video_ids])
    covered = int(is_used.sum()) if annotated.tubes is not None else int(is_used[keys.video].sum())
    if gone <= allowed(allowance, covered + gone):
        return
    noun = "videos" if annotated.tubes is not None else "keyframes"
    named = "; ".join(str(one) for one in missing[:MOST_NAMED])
    more = f"; and {len(missing) - MOST_NAMED} more videos" if len(missing) > MOST_NAMED else ""
    raise ReelmillError(
        f"{where}: {gone} of {covered + gone} annotated {noun} have no maps: {named}{more}; make their features, or "
        f"allow for that many with `missing: {gone}`"
    )


# ---------------------------------------------------------------- boxes


def _truth(
    annotated: AnnotatedBoxes,
    tubes: TubeSet | None,
    names: Sequence[str],
    keys: Keyframes,
    splits: NDArray[np.str_],
    first_s: Floats,
    *,
    where: str,
) -> tuple[BoxTable, Ints]:
    """The true boxes at the keyframes, by keyframe, and the keyframe of each."""
    rows = np.flatnonzero(splits != NO_SPLIT)
    places = {name: place for place, name in enumerate(annotated.names)}
    name = np.array([places[names[video]] for video in keys.video[rows]], dtype=np.int64)
    table = boxes_of_keyframes(
        annotated, tubes, name=name, second=keys.second[rows], first_s=first_s[keys.video[rows]], where=where
    )
    number = {(place, round(s * 1e6)): row for place, s, row in zip(name, keys.second[rows], rows, strict=True)}
    micros = np.rint(table.second * 1e6).astype(np.int64)
    owner = np.array(
        [number.get((video, at), -1) for video, at in zip(table.video.tolist(), micros.tolist(), strict=True)],
        dtype=np.int64,
    )
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    return table.select(order), owner[order]


def _require_boxes(
    targets: Sequence[KeyTargets], splits: NDArray[np.str_], annotated: AnnotatedBoxes, *, where: str
) -> None:
    """Raises ReelmillError where a split that there ought to be has no keyframe, or none with a box."""
    needed: tuple[Split, ...] = (
        ("train", "val", "test") if expects_test(annotated.rows, labelled="any") else ("train", "val")
    )
    num_boxes = np.array([len(target) for target in targets])
    for split in needed:
        if not num_boxes[splits == split].sum():
            raise ReelmillError(
                f"{where}: no keyframe with maps and a box in them is in split {split}; annotate more videos, or "
                "change holdout.fraction or holdout.seed"
            )


# ---------------------------------------------------------------- boxes that are given


def _read_given(settings: RoIHead, rows: Sequence[VideoRow], *, where: str) -> GivenBoxes | None:
    if settings.proposals in ("learned", "truth"):
        return None
    start_s = settings.annotations.start_s if isinstance(settings.annotations, AVAAnnotations) else 0.0
    return read_given(settings.proposals, rows, min_score=settings.min_box_score, start_s=start_s, where=where)


def _given(
    settings: RoIHead, given: GivenBoxes | None, keys: Keyframes, maps: Maps, targets: Sequence[KeyTargets]
) -> tuple[tuple[Tensor, Tensor], ...] | None:
    """The boxes (B, 4) of each keyframe in shares of its view, and their scores (B,); None where they are learned."""
    if settings.proposals == "truth":
        return tuple((target.box, torch.ones(len(target))) for target in targets)
    if given is None:
        return None
    found = []
    for video, second, row in zip(keys.video, keys.second.tolist(), keys.row, strict=True):
        boxes, scores = given.at.get(instant_of(maps.video_ids[video], second), (np.zeros((0, 4)), np.zeros(0)))
        inside, kept = into_view(boxes, maps.view[row])
        found.append((torch.from_numpy(inside).float(), torch.from_numpy(scores[kept]).float()))
    return tuple(found)


def _facts(
    annotated: AnnotatedBoxes, given: GivenBoxes | None, data: DetectionData, *, num_seen: int
) -> dict[str, Any]:
    """What metrics.json says of the annotations."""
    is_true = data.splits != NO_SPLIT
    facts: dict[str, Any] = {
        "boxes": len(data.truth),
        "boxes_outside_view": len(data.truth) - num_seen,
        "keyframes": int(is_true.sum()),
        "keyframes_without_box": int(sum(not len(data.targets[key]) for key in np.flatnonzero(is_true))),
        "left_out": dict(sorted(Counter(why.reason for why in annotated.left_out.values()).items())),
        "dropped": annotated.opened.report.as_json(),
    }
    if given is not None and data.given is not None:
        facts["keyframes_without_given_box"] = int(sum(not len(data.given[key][0]) for key in np.flatnonzero(is_true)))
        facts["dropped_of_proposals"] = given.report.as_json()
    return facts
