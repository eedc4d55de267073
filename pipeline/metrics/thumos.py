"""Temporal detection as the THUMOS14 kit scores it: AP per class and tIoU, with Ambiguous truth.

The rule, for a class and a threshold, is that of the kit's `TH14evalDet_Updated.m` (the later one: the kit of 2014 had
an 11-point AP). In each video the truths, in the order of their file, each take the free detection of largest overlap
if that is above the threshold: a hit. Other detections are mistakes, except those that touch an Ambiguous truth of the
video: they are left out. A truth takes its detection first, so a hit may touch Ambiguous. Overlap is the common length
over the length from the first start to the last end; a segment that ends before it starts is turned round.
AP is the sum of the precision at each hit over the number of truths; mAP is the mean over classes.

Ties have one order, for MATLAB's sort is stable: detections of one score stand by video name, then by their file; of
detections with the same overlap a truth takes the surest. Detections in a video without truth are mistakes.

The kit stops where a class has no truth, where a class has detections and each of them touches Ambiguous, and where a
detection's class is unknown. Here: classes without truth are left out, such a class has AP 0, and such detections are
left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.temporal import AveragePrecision, num_tied, rows_by_key, scores_of, shared_classes
from schemas.annotation import SegmentTable

THUMOS_TIOUS = np.linspace(0.3, 0.7, 5)  # what is reported; the kit takes one threshold at a time

_DROPPED, _MISTAKE, _HIT = 0, 1, 2


def thumos_ap(
    truth: SegmentTable, predictions: SegmentTable, *, tious: NDArray[np.float64] = THUMOS_TIOUS
) -> AveragePrecision:
    """AP by the rule above; `truth` holds the Ambiguous segments too.

    Raises ValueError for predictions without scores and for truth without a segment that has a class.
    """
    certain, ambiguous = truth.certain(), truth.ambiguous()
    scores = scores_of(predictions)
    classes = shared_classes(certain, predictions)
    video = _by_name(predictions)
    # by class, within it best first, ties by video name and then by the file
    order = np.lexsort((video, -scores, classes.predicted))
    order = order[np.searchsorted(classes.predicted[order], 0) :]
    first = np.searchsorted(classes.predicted[order], np.arange(len(classes.labels) + 1))
    fates = np.full((len(tious), len(order)), _MISTAKE)
    start_s, end_s = _upright(predictions.select(order))
    truth_spans, ambiguous_spans = np.stack(_upright(certain)), np.stack(_upright(ambiguous))
    for ranks, rows, vague in _groups(
        classes.predicted[order], classes.video[order], classes.truth, certain, ambiguous
    ):
        some = start_s[ranks], end_s[ranks]
        touches = (_overlap(ambiguous_spans[:, vague], *some) > 0).any(axis=0)
        fates[:, ranks] = np.where(touches, _DROPPED, _MISTAKE)
        for row, taken in zip(fates, _taken(truth_spans[:, rows], *some, tious), strict=True):
            row[ranks[taken]] = _HIT
    num_truths = np.bincount(classes.truth, minlength=len(classes.labels))
    ap = np.zeros((len(tious), len(classes.labels)))
    for index, num in enumerate(num_truths):
        for row, fate in zip(ap, fates[:, first[index] : first[index + 1]], strict=True):
            row[index] = _ap(fate, int(num))
    return AveragePrecision(
        tious=np.asarray(tious, np.float64),
        labels=classes.labels,
        ap=ap,
        num_truths=num_truths,
        num_predictions=np.diff(first),
        num_other=len(predictions) - len(order),
        num_tied=num_tied(scores[order], first),
    )


def _by_name(table: SegmentTable) -> NDArray[np.int64]:
    """(N,) the place of each segment's video among the sorted names."""
    place = np.empty(len(table.videos), np.int64)
    place[sorted(range(len(table.videos)), key=table.videos.__getitem__)] = np.arange(len(table.videos))
    return place[table.video]


def _upright(table: SegmentTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.minimum(table.start_s, table.end_s), np.maximum(table.start_s, table.end_s)


def _groups(
    ranked_class: NDArray[np.int64],
    ranked_video: NDArray[np.int64],
    truth_class: NDArray[np.int64],
    certain: SegmentTable,
    ambiguous: SegmentTable,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """For each class and video with detections and truth or Ambiguous truth: ranks of the detections, rising, rows of
    the class's truth and rows of Ambiguous truth, both in the order of the file."""
    num_videos = len(certain.videos)
    truth_key = truth_class * num_videos + certain.video
    truth_of, ambiguous_of = rows_by_key(truth_key), rows_by_key(ambiguous.video)
    key = np.where(ranked_video < 0, -1, ranked_class * num_videos + ranked_video)
    known = np.flatnonzero(np.isin(key, truth_key) | np.isin(ranked_video, ambiguous.video))
    nothing = np.zeros(0, np.int64)
    for value, places in rows_by_key(key[known]).items():
        yield known[places], truth_of.get(value, nothing), ambiguous_of.get(value % num_videos, nothing)


def _overlap(
    truth: NDArray[np.float64], start_s: NDArray[np.float64], end_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(G, P) overlap of G truths, (2, G) starts and ends, with P detections; 0 where they only touch."""
    shared = np.minimum(truth[1][:, None], end_s) - np.maximum(truth[0][:, None], start_s)
    whole = np.maximum(truth[1][:, None], end_s) - np.minimum(truth[0][:, None], start_s)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def _taken(
    truth: NDArray[np.float64],
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    tious: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """(T, P) which of P detections, surest first, are taken by G truths in their order, for each threshold."""
    taken = np.zeros((len(tious), len(start_s)), bool)
    for index in range(truth.shape[1]):
        overlap = _overlap(truth[:, index : index + 1], start_s, end_s)[0]
        free = np.where(taken, -1.0, overlap)
        best = free.argmax(axis=1)  # the first of equals, which is the surest
        rows = np.flatnonzero(free[np.arange(len(tious)), best] > tious)
        taken[rows, best[rows]] = True
    return taken


def _ap(fate: NDArray[np.int64], num_truths: int) -> float:
    """The sum of precision at each hit, over the number of truths. fate: (P,) of the detections, best first."""
    hits = np.flatnonzero(fate[fate != _DROPPED] == _HIT)
    if len(hits) == 0:
        return 0.0
    precision = np.arange(1, len(hits) + 1) / (hits + 1)
    return float(np.cumsum(precision)[-1] / num_truths)  # summed one by one, as MATLAB's loop does
