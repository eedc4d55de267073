"""Boxes that the head is given: a detector's, from a csv in AVA's form, with scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations import Report, join_videos
from pipeline.annotations.ava import read_proposals
from schemas.errors import ReelmillError, UsageError
from schemas.manifest import VideoRow

Instant = tuple[str, int]  # video_id, ms


def instant_of(video_id: str, second: float) -> Instant:
    """An instant by which a keyframe and its given boxes find each other: to the millisecond."""
    return video_id, round(second * 1000)


@dataclass(frozen=True)
class GivenBoxes:
    """Boxes (N, 4) in shares of the frame, and their scores (N,), by instant."""

    at: dict[Instant, tuple[NDArray[np.float64], NDArray[np.float64]]]
    seconds: dict[str, NDArray[np.float64]]  # video_id -> when it has some, ascending
    report: Report


def read_given(path: str, rows: Sequence[VideoRow], *, min_score: float, start_s: float, where: str) -> GivenBoxes:
    """The boxes of a csv that score `min_score` or more. start_s: the csv's second at which each file begins.

    Raises UsageError for a file that is none, ReelmillError where it has no box for any video of the manifest.
    """
    report = Report()
    try:
        table = read_proposals(path, report=report)
        joined = join_videos(table.videos, rows)
    except UsageError as error:
        raise UsageError(f"{where}: proposals: {error}") from None
    video_id = {video: rows[row].video_id for row, video in zip(joined.row, joined.video.tolist(), strict=True)}
    assert table.score is not None
    found: dict[Instant, list[int]] = {}
    seconds: dict[str, set[float]] = {}
    for row in np.flatnonzero((table.score >= min_score) & np.isin(table.video, joined.video)):
        name, second = video_id[int(table.video[row])], float(table.second[row]) - start_s
        found.setdefault(instant_of(name, second), []).append(int(row))
        seconds.setdefault(name, set()).add(second)
    if not found:
        raise ReelmillError(
            f"{where}: {path} has no box of score {min_score:g} or more for any video of the manifest; lower "
            "min_box_score, or check the names in the csv"
        )
    return GivenBoxes(
        at={key: (table.box[places], table.score[places]) for key, places in found.items()},
        seconds={name: np.array(sorted(some)) for name, some in seconds.items()},
        report=report,
    )
