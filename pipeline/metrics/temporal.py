"""Temporal detection as ActivityNet's `Evaluation/eval_detection.py` scores it: interpolated AP per class and tIoU.

The rule, for a class and a threshold: predictions by falling score; each takes the free truth of its video and class
with the largest tIoU that is not below the threshold, and is a mistake where there is none. AP is the area under the
interpolated precision (VOC 2011), mAP the mean over the classes that have truth, average-mAP the mean over thresholds.

What the official code also does, and this one with it:
- a prediction in a video without truth of its class, or in a video that is not evaluated at all, is a mistake;
- a class without predictions has AP 0; a truth that stands twice in the file counts twice;
- a prediction of no length that equals a truth of no length has tIoU 0/0, which counts as a hit at any threshold.
What it refuses: a predicted label that no evaluated truth has (KeyError). Here such predictions are left out, which
changes no number, and counted. Ambiguous truth (THUMOS14) is left out too, as users of this protocol on THUMOS14 do.

Ties. The official order is numpy's `argsort()[::-1]`, whose default sort keeps no order among equals, so where scores
(or tIoU) tie, the official code has no one answer:

| `ties` | order among equals | whose answer it is |
|---|---|---|
| `last` | the last of the file first: a stable sort, reversed | the same everywhere; the default |
| `introsort` | numpy's introsort, reversed | the official code with numpy up to 1.24; up to 16 as `last` |
| `installed` | what the installed numpy does | the official code run beside: AVX2 and AVX-512 differ, from 4 on |

Without ties all three are one. The official sample predictions are all of score 1.0: Average-mAP is 0.9719758051 with
`last` (and with numpy 1.25 or later on AVX2 or AVX-512), 0.9741573656 with `introsort`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.annotation import SegmentTable

ACTIVITYNET_TIOUS = np.linspace(0.5, 0.95, 10)

Ties = Literal["last", "introsort", "installed"]
_MAX_CELLS = 1 << 20  # of one matrix of tIoU: bounds memory where a video has very many predictions


@dataclass(frozen=True, slots=True, eq=False)
class AveragePrecision:
    """AP of C classes at T thresholds, in [0, 1].

    tious: (T,) float64. labels: C names, the classes that have truth, in the order in which the truth names them.
    ap: (T, C) float64. num_truths, num_predictions: (C,) int64. num_other: predictions of labels without truth, which
    are left out. num_tied: predictions that share their score with another of their class.
    """

    tious: NDArray[np.float64]
    labels: tuple[str, ...]
    ap: NDArray[np.float64]
    num_truths: NDArray[np.int64]
    num_predictions: NDArray[np.int64]
    num_other: int
    num_tied: int

    @property
    def mean_ap(self) -> NDArray[np.float64]:
        """(T,) mAP: the mean over classes at each threshold."""
        return self.ap.mean(axis=1)

    @property
    def average_map(self) -> float:
        """The mean of mAP over the thresholds."""
        return float(self.mean_ap.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Truth and predictions brought under the truth's own classes and videos.

    labels: C names. truth, predicted: (N,) and (M,) int64 class, -1 for none. video: (M,) int64, the truth's index of
    each prediction's video, -1 where the truth has no such video.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    video: NDArray[np.int64]


def without_videos(table: SegmentTable, blocked: Collection[str]) -> SegmentTable:
    """The table without the blocked videos and their segments (ActivityNet has a list of videos that are gone)."""
    kept = np.array([name not in blocked for name in table.videos], bool)
    rows = table.select(kept[table.video])
    return replace(
        rows,
        video=(np.cumsum(kept) - 1)[rows.video],
        videos=tuple(compress(table.videos, kept)),
        subset=None if table.subset is None else tuple(compress(table.subset, kept)),
        duration_s=None if table.duration_s is None else table.duration_s[kept],
    )


def detection_ap(
    truth: SegmentTable,
    predictions: SegmentTable,
    *,
    tious: NDArray[np.float64] = ACTIVITYNET_TIOUS,
    ties: Ties = "last",
) -> AveragePrecision:
    """AP by the rule above. Predictions of all videos take part: leave none out that the official code would see.

    Raises ValueError for predictions without scores and for truth without a segment that has a class.
    """
    truth = truth.certain()
    scores = scores_of(predictions)
    classes = shared_classes(truth, predictions)
    ranking, first = ranked_by_class(classes.predicted, scores, len(classes.labels), ties)
    edges = _Edges.of(truth, predictions, classes, ranking, first, lowest=float(np.min(tious)), ties=ties)
    num_truths = np.bincount(classes.truth, minlength=len(classes.labels))
    ap = np.zeros((len(tious), len(classes.labels)))
    for row, tiou in zip(ap, tious, strict=True):
        hits = edges.matched(float(tiou), len(truth), len(ranking))
        bounds = np.searchsorted(hits, first)
        for index, num in enumerate(num_truths):
            row[index] = interpolated_ap(hits[bounds[index] : bounds[index + 1]] - first[index], int(num))
    return AveragePrecision(
        tious=np.asarray(tious, np.float64),
        labels=classes.labels,
        ap=ap,
        num_truths=num_truths,
        num_predictions=np.diff(first),
        num_other=len(predictions) - len(ranking),
        num_tied=num_tied(scores[ranking], first),
    )


def scores_of(predictions: SegmentTable) -> NDArray[np.float64]:
    """(M,) scores. Raises ValueError where the table is truth."""
    if predictions.score is None:
        raise ValueError("predictions need scores, and these have none: truth and predictions may be swapped")
    return predictions.score


def shared_classes(truth: SegmentTable, predictions: SegmentTable) -> Classes:
    """Classes in the order in which the truth's segments name them. Raises ValueError where there is no truth."""
    if len(truth) == 0:
        raise ValueError("there is no truth to compare with: no segment of a class is left")
    used, first = np.unique(truth.label, return_index=True)
    used = used[np.argsort(first)]
    labels = tuple(truth.labels[index] for index in used)
    to_class = np.full(len(truth.labels), -1)
    to_class[used] = np.arange(len(used))
    class_of = {name: index for index, name in enumerate(labels)}
    video_of = {name: index for index, name in enumerate(truth.videos)}
    # one more at the end, for AMBIGUOUS = -1: no class
    predicted = np.array([*(class_of.get(name, -1) for name in predictions.labels), -1])
    videos = np.array([video_of.get(name, -1) for name in predictions.videos], np.int64)
    return Classes(labels, to_class[truth.label], predicted[predictions.label], videos[predictions.video])


def ranked_by_class(
    predicted: NDArray[np.int64], scores: NDArray[np.float64], num_classes: int, ties: Ties
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions class by class, each class best first: rows (M',), and where each class begins (C+1,)."""
    by_class = np.argsort(predicted, kind="stable")
    first = np.searchsorted(predicted[by_class], np.arange(num_classes + 1))
    for begin, end in pairwise(first):
        rows = by_class[begin:end]
        by_class[begin:end] = rows[falling_order(scores[rows], ties)]
    return by_class[first[0] :], first - first[0]


def falling_order(values: NDArray[np.float64], ties: Ties) -> NDArray[np.int64]:
    """`values.argsort()[::-1]` along the last axis, by one of the sorts of the table above; NaN first."""
    if ties == "introsort":
        values = values.astype(np.longdouble)  # numpy has no vector sort of these: they keep the sort float64 had
    return np.argsort(values, axis=-1, kind="stable" if ties == "last" else None)[..., ::-1]


def num_tied(scores: NDArray[np.float64], first: NDArray[np.int64]) -> int:
    """How many of the ranked scores (M',) equal another of their class, which begins at `first` (C+1,)."""
    same = np.zeros(len(scores) + 1, bool)
    same[1:-1] = scores[1:] == scores[:-1]
    same[first] = False
    return int((same[1:] | same[:-1]).sum())


def temporal_iou(
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    truth_start_s: NDArray[np.float64],
    truth_end_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(P, G) tIoU of P segments with G truths in the official code's order of operations; NaN where it is 0/0."""
    shared = np.minimum(end_s[:, None], truth_end_s) - np.maximum(start_s[:, None], truth_start_s)
    shared = shared.clip(0)
    union = (truth_end_s - truth_start_s) + (end_s - start_s)[:, None] - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        return shared / union


def interpolated_ap(hits: NDArray[np.int64], num_truths: int) -> float:
    """Area under the interpolated precision. hits: (H,) places of the hits in the ranking, from 0, rising."""
    if len(hits) == 0:
        return 0.0
    precision = np.arange(1, len(hits) + 1) / (hits + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.arange(len(hits) + 1) / float(num_truths)
    areas = np.diff(recall) * best_from_here
    # the official sum has a term for the missing recall, of precision 0: it decides how numpy pairs the terms
    return float(np.sum(areas if len(hits) == num_truths else np.append(areas, 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Which truths a prediction may take: E pairs, by prediction as ranked, each prediction's favourite first.

    rank: (E,) int64, place of the prediction in the ranking of all classes. truth: (E,) int64, row of the truth.
    tiou: (E,) float64.
    """

    rank: NDArray[np.int64]
    truth: NDArray[np.int64]
    tiou: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        truth: SegmentTable,
        predictions: SegmentTable,
        classes: Classes,
        ranking: NDArray[np.int64],
        first: NDArray[np.int64],
        *,
        lowest: float,
        ties: Ties,
    ) -> _Edges:
        """All pairs whose tIoU is not below `lowest`."""
        starts, ends = predictions.start_s[ranking], predictions.end_s[ranking]
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        for ranks, rows in paired_groups(truth, classes, ranking, first):
            step = max(1, _MAX_CELLS // len(rows))
            for begin in range(0, len(ranks), step):
                some = ranks[begin : begin + step]
                tiou = temporal_iou(starts[some], ends[some], truth.start_s[rows], truth.end_s[rows])
                near = ~(tiou < lowest)  # NaN is near
                some, tiou, near = some[near.any(axis=1)], tiou[near.any(axis=1)], near[near.any(axis=1)]
                order = falling_order(tiou, ties)
                which, place = np.nonzero(np.take_along_axis(near, order, axis=1))
                favourite = order[which, place]
                parts.append((some[which], rows[favourite], tiou[which, favourite]))
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        rank, taken, tiou = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(rank, taken, tiou)

    def matched(self, tiou: float, num_truths: int, num_ranked: int) -> NDArray[np.int64]:
        """Ranks of the hits, rising.

        Every prediction in turn taking its favourite among the free truths comes to the same pairs as all asking at
        once, a truth keeping the best ranked that has asked it and the others asking their next (Gale and Shapley:
        where all truths rank alike there is one stable matching). The latter takes few rounds, each over arrays.
        """
        near = ~(self.tiou < tiou)  # a prefix of each prediction's truths, for they fall
        truth = self.truth[near]
        asking, cursor_of, num_of = np.unique(self.rank[near], return_index=True, return_counts=True)
        cursor, end = np.zeros(num_ranked, np.int64), np.zeros(num_ranked, np.int64)
        cursor[asking], end[asking] = cursor_of, cursor_of + num_of
        nobody = num_ranked
        holder = np.full(num_truths, nobody)
        while len(asking):
            before = holder.copy()
            asked = truth[cursor[asking]]
            np.minimum.at(holder, asked, asking)
            refused = np.concatenate((asking[holder[asked] != asking], before[(before != holder) & (before < nobody)]))
            cursor[refused] += 1
            asking = refused[cursor[refused] < end[refused]]
        return np.sort(holder[holder < nobody])


def paired_groups(
    truth: SegmentTable, classes: Classes, ranking: NDArray[np.int64], first: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each class and video with truth and predictions: ranks (P,) of these, rising, and rows (G,) of the truth in
    the order of its file."""
    num_videos = len(truth.videos)
    truth_key = classes.truth * num_videos + truth.video
    truth_of = rows_by_key(truth_key)
    ranked_class = np.repeat(np.arange(len(first) - 1), np.diff(first))
    ranked_video = classes.video[ranking]
    key = np.where(ranked_video < 0, -1, ranked_class * num_videos + ranked_video)
    known = np.flatnonzero(np.isin(key, truth_key))
    for value, places in rows_by_key(key[known]).items():
        yield known[places], truth_of[value]


def rows_by_key(keys: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The rows, rising, at which each key stands."""
    rows = np.argsort(keys, kind="stable")
    values, first = np.unique(keys[rows], return_index=True)
    return dict(zip(values.tolist(), np.split(rows, first[1:]), strict=False))
