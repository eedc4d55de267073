"""Frame-mAP and video-mAP of tubes (UCF101-24, JHMDB), as ACT-detector and MOC-detector compute them.

vkalogeiton/caffe (branch act-detector) ACT.py and MCG-NJU/MOC-Detector src/ACT.py have the same `frameAP`, `videoAP`,
`iou3dt` and `pr_to_ap`; most published numbers are theirs. The rules:

- Pixels: x2 is the last pixel of a box, its width x2 - x1 + 1, whatever the numbers in the files mean.
- frame-mAP: every box of every tube is a detection of its frame, with the score of the box, or of its tube where
  boxes have none. video-mAP: IoU of two tubes = mean IoU of their boxes over the frames both have × the frames both
  have / the frames from the first of either to the last. Before that, tubes of one class in a video that overlap a
  better one by more than `nms_iou` are dropped: that is part of `videoAP`.
- Best first, each detection takes the truth of its frame (its video) and class with the largest IoU among those not
  yet taken, and is a hit if that IoU >= the threshold. So a second detection may take the second largest.
- AP is the area under precision over recall by trapezoids, from precision 1 at recall 0, without an envelope and
  without what lies beyond the last recall; in float32, as there.
- The mean is over all classes of the dataset: one without truth counts 0 (where it has predictions, that code stops at
  a division by zero). `mean_ap_present` leaves such classes out.

Ties: that code's `argsort(-score)` is numpy's introsort (2017 to 2020); see `pipeline.metrics.temporal` for `ties`.
Rows stand by video in the truth's order, then by frame, then in the order of the file.

Others differ, so numbers are comparable only within a rule: gurkirt/realtime-action-detection (ROAD, and those after
it) has no + 1, AP under the precision's envelope, an IoU of tubes that is 0 where they share a single frame, tube hits
where the IoU > the threshold, and no suppression in the metric. mmaction2's code for MultiSports has no + 1 in
space or in time, and AP under the envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import iou_rows
from pipeline.metrics.pairs import Floats, Ints, expand, pairs_of_same_key
from pipeline.metrics.temporal import Ties, falling_order
from schemas.annotation import Tube, TubeSet

_MAX_BOXES = 1 << 18  # pairs of boxes that are compared at once: bounds memory


@dataclass(frozen=True, slots=True)
class TubeCounts:
    """Frames (frame-mAP) or videos (video-mAP), and what became of the boxes or tubes predicted. These are `used`, or
    one of other_class, other_video and suppressed."""

    with_truth: int  # frames or videos
    predicted: int  # of these, with a prediction
    used: int
    elsewhere: int  # of those used, in frames or videos without truth: mistakes
    other_class: int  # that the truth does not name
    other_video: int  # that the truth does not name
    suppressed: int  # by a better tube


@dataclass(frozen=True, slots=True, eq=False)
class TubeResult:
    """AP (K,) of the truth's K classes in [0, 1], 0 for a class without truth; its number of true and of used boxes or
    tubes (K,)."""

    labels: tuple[str, ...]
    average_precision: Floats
    num_truth: Ints
    num_predictions: Ints
    counts: TubeCounts

    @property
    def mean_ap(self) -> float:
        """Over all classes; NaN where there are none."""
        return float(np.mean(self.average_precision)) if len(self.labels) else float("nan")

    @property
    def mean_ap_present(self) -> float:
        """Over the classes that have truth; NaN where none has."""
        present = self.average_precision[self.num_truth > 0]
        return float(np.mean(present)) if len(present) else float("nan")


def frame_map(
    truth: TubeSet, predictions: TubeSet, *, iou: float = 0.5, inclusive: bool = True, ties: Ties = "introsort"
) -> TubeResult:
    """The frame-mAP of predictions; videos and classes of both are joined by name. Detections that were never linked
    are tubes of one frame. inclusive: x2 is the last pixel (the first rule).

    Raises ValueError for predictions without scores.
    """
    sides = _join(truth, predictions)
    num_frames = max((tube.end_frame for tube in (*truth.tubes, *predictions.tubes)), default=0)
    true, predicted = (side.by_frame(num_frames) for side in (sides.true, sides.predicted))
    predicted = predicted.take(np.argsort(predicted.place, kind="stable"))
    rows, truths = pairs_of_same_key(predicted.key(sides), true.key(sides))
    overlap = iou_rows(true.box[true.first[truths]], predicted.box[predicted.first[rows]], inclusive=inclusive)
    is_hit, order = _hits(predicted, sides, (rows, truths, overlap), iou, ties)
    other_class, other_video = (sum(len(t.boxes) for t in tubes) for tubes in (sides.other_class, sides.other_video))
    return _result(truth.labels, true, predicted, is_hit, order, (other_class, other_video, 0))


def video_map(
    truth: TubeSet,
    predictions: TubeSet,
    *,
    iou: float = 0.5,
    nms_iou: float = 0.3,
    inclusive: bool = True,
    ties: Ties = "introsort",
) -> TubeResult:
    """The video-mAP of predictions; videos and classes of both are joined by name. nms_iou: 1 to drop none.

    Raises ValueError for predictions without scores.
    """
    sides = _join(truth, predictions)
    kept = sides.predicted.take(_best_apart(sides, nms_iou, inclusive, ties))
    rows, truths = pairs_of_same_key(kept.key(sides), sides.true.key(sides))
    overlap = _tube_iou(sides.true.take(truths), kept.take(rows), inclusive)
    is_hit, order = _hits(kept, sides, (rows, truths, overlap), iou, ties)
    suppressed = len(sides.predicted.place) - len(kept.place)
    lost = (len(sides.other_class), len(sides.other_video), suppressed)
    return _result(truth.labels, sides.true, kept, is_hit, order, lost)


# ---------------------------------------------------------------- tubes as columns


class _Items(NamedTuple):
    """What is scored, a tube or a box a row. place: (N,) its video or its frame. box: (B, 4), box_score: (B,), of all
    tubes behind one another: row i has `length[i]` of them from `first[i]` on, and starts at frame `start[i]`."""

    place: Ints
    label: Ints
    score: Floats
    first: Ints
    start: Ints
    length: Ints
    box: Floats
    box_score: Floats

    def key(self, sides: _Sides) -> Ints:
        return self.place * sides.num_labels + self.label

    def take(self, rows: Ints) -> _Items:
        place, label, score, first, start, length = (column[rows] for column in self[:6])
        return _Items(place, label, score, first, start, length, self.box, self.box_score)  # type: ignore[arg-type]

    def by_frame(self, num_frames: int) -> _Items:
        """A row for each box of rows that lie behind one another: its place is video × num_frames + frame."""
        frame, at, one = expand(self.start, self.length), np.arange(len(self.box)), np.ones(len(self.box), np.int64)
        place, label = (np.repeat(column, self.length) for column in (self.place * num_frames, self.label))
        return _Items(place + frame, label, self.box_score, at, frame, one, self.box, self.box_score)


class _Sides(NamedTuple):
    """Truth and predictions with the truth's indices of videos and classes, and the predictions that have none."""

    true: _Items
    predicted: _Items
    other_class: list[Tube]
    other_video: list[Tube]
    num_labels: int


def _join(truth: TubeSet, predictions: TubeSet) -> _Sides:
    if any(tube.score is None for tube in predictions.tubes):
        raise ValueError("predictions have no scores")
    videos, labels = ({name: i for i, name in enumerate(names)} for names in (truth.videos, truth.labels))
    video_of, label_of = [videos.get(n) for n in predictions.videos], [labels.get(n) for n in predictions.labels]
    known: list[tuple[int, int, Tube]] = []
    other_class, other_video = [], []
    for tube in predictions.tubes:
        video, label = video_of[tube.video], label_of[tube.label]
        if video is None:
            other_video.append(tube)
        elif label is None:
            other_class.append(tube)
        else:
            known.append((video, label, tube))
    true = _columns([(tube.video, tube.label, tube) for tube in truth.tubes])
    return _Sides(true, _columns(known), other_class, other_video, len(labels))


def _columns(rows: list[tuple[int, int, Tube]]) -> _Items:
    """Tubes with their video and class as columns, by video."""
    rows = sorted(rows, key=lambda row: row[0])
    tubes = [tube for *_, tube in rows]
    score = np.array([0.0 if tube.score is None else tube.score for tube in tubes], dtype=np.float64)
    video, label, start, length = (
        np.array(column, dtype=np.int64)
        for column in (
            [video for video, *_ in rows],
            [label for _, label, _ in rows],
            [tube.start_frame for tube in tubes],
            [len(tube.boxes) for tube in tubes],
        )
    )
    box = np.concatenate([np.empty((0, 4)), *(tube.boxes for tube in tubes)])
    box_score = np.repeat(score, length)
    first = np.cumsum(length) - length
    for at, tube in zip(first, tubes, strict=True):
        if tube.box_scores is not None:
            box_score[at : at + len(tube.boxes)] = tube.box_scores
    return _Items(video, label, score, first, start, length, box, box_score)


# ---------------------------------------------------------------- IoU of tubes, and suppression


def _tube_iou(one: _Items, other: _Items, inclusive: bool) -> Floats:
    """IoU (P,) of tubes, row by row."""
    begin = np.maximum(one.start, other.start)
    one_end, other_end = one.start + one.length, other.start + other.length
    common = np.minimum(one_end, other_end) - begin
    spatial = np.zeros(len(common))
    # rows of one length at a time, so that each mean is taken as numpy takes that of one row
    for length in np.unique(common[common > 0]):
        every = np.flatnonzero(common == length)
        for rows in np.array_split(every, -(-len(every) * int(length) // _MAX_BOXES)):
            boxes = [
                side.box[(side.first + begin - side.start)[rows, None] + np.arange(length)] for side in (one, other)
            ]
            spatial[rows] = iou_rows(*boxes, inclusive=inclusive).mean(axis=1)
    from_first_to_last = np.maximum(one_end, other_end) - np.minimum(one.start, other.start)
    return spatial * (common / from_first_to_last)


def _best_apart(sides: _Sides, nms_iou: float, inclusive: bool, ties: Ties) -> Ints:
    """The predicted tubes (rows) that no better one of their video and class overlaps by more than nms_iou: by video
    and class, best first."""
    tubes = sides.predicted
    key = tubes.key(sides)
    order = np.argsort(key, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        group[:] = group[falling_order(tubes.score[group], ties)]  # a view of `order`
    if nms_iou >= 1:
        return order
    better, worse = _pairs_in_time(tubes.take(order), key[order])
    is_close = _tube_iou(tubes.take(order[better]), tubes.take(order[worse]), inclusive) > nms_iou
    is_kept = np.ones(len(order), dtype=bool)
    close = np.stack([better, worse], axis=1)[is_close]
    for first, second in close[np.argsort(close[:, 0], kind="stable")].tolist():
        if is_kept[first]:
            is_kept[second] = False
    return order[is_kept]


def _pairs_in_time(tubes: _Items, key: Ints) -> tuple[Ints, Ints]:
    """All pairs (P,), (P,) of rows of one key that have a frame in common, the lower row first."""
    end = tubes.start + tubes.length
    horizon = end.max(initial=0) + 1
    begin = key * horizon + tubes.start
    by_begin = np.argsort(begin, kind="stable")
    # of tubes by key and start: those that start after this one, and before it ends
    count = np.searchsorted(begin[by_begin], (key * horizon + end)[by_begin]) - np.arange(len(key)) - 1
    early, late = np.repeat(by_begin, count), by_begin[expand(np.arange(len(key)) + 1, count)]
    return np.minimum(early, late), np.maximum(early, late)


# ---------------------------------------------------------------- hits and AP


def _hits(
    predicted: _Items, sides: _Sides, pairs: tuple[Ints, Ints, Floats], threshold: float, ties: Ties
) -> tuple[NDArray[np.bool_], list[Ints]]:
    """Whether each prediction (N,) is a hit, and for each class its predictions, best first.

    pairs: (P,) row of the prediction, (P,) of the truth, (P,) their IoU.
    """
    by_class = [np.flatnonzero(predicted.label == label) for label in range(sides.num_labels)]
    order = [rows[falling_order(-predicted.score[rows], ties)[::-1]] for rows in by_class]
    rank = np.empty(len(predicted.label), dtype=np.int64)
    rank[np.concatenate([np.empty(0, np.int64), *order])] = np.arange(len(rank))
    rows, truths, overlap = (column[pairs[2] >= threshold] for column in pairs)
    is_hit, taken = [False] * len(rank), set()
    turn = np.lexsort((truths, -overlap, rank[rows]))
    for row, truth in zip(rows[turn].tolist(), truths[turn].tolist(), strict=True):
        if not is_hit[row] and truth not in taken:
            is_hit[row] = True
            taken.add(truth)
    return np.array(is_hit, dtype=bool), order


def average_precision(is_hit: NDArray[np.bool_], num_truth: int) -> float:
    """The area under precision over recall by trapezoids, in float32; is_hit: (N,) of the predictions, best first."""
    found = np.cumsum(is_hit)
    precision = np.concatenate([[1.0], found / np.arange(1, len(found) + 1)]).astype(np.float32)
    recall = np.concatenate([[0.0], found / max(num_truth, 1)]).astype(np.float32)
    return float(np.sum((recall[1:] - recall[:-1]) * (precision[1:] + precision[:-1]) * np.float32(0.5)))


def _result(
    labels: tuple[str, ...],
    true: _Items,
    predicted: _Items,
    is_hit: NDArray[np.bool_],
    order: Sequence[Ints],
    lost: tuple[int, int, int],
) -> TubeResult:
    num_truth, num_predictions = (np.bincount(side.label, minlength=len(labels)) for side in (true, predicted))
    ap = [average_precision(is_hit[rows], int(count)) for rows, count in zip(order, num_truth, strict=True)]
    is_somewhere = np.isin(predicted.place, true.place)
    places = np.unique(true.place)
    counts = TubeCounts(
        with_truth=len(places),
        predicted=int(np.isin(places, predicted.place).sum()),
        used=len(predicted.place),
        elsewhere=int((~is_somewhere).sum()),
        other_class=lost[0],
        other_video=lost[1],
        suppressed=lost[2],
    )
    return TubeResult(labels, np.array(ap, dtype=np.float64), num_truth, num_predictions, counts)
