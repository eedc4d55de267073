"""AVA frame-mAP, as ActivityNet/Evaluation/get_ava_performance.py with its ava/ folder computes it.

The rules, in the order in which they act:
1. Predictions of other classes than those evaluated are skipped.
2. Of each frame the `max_per_frame` best predictions are kept, all classes together.
3. Predictions in frames that the truth does not have are ignored; a frame that it has without boxes (of a class that
   is evaluated) is one where all predictions are mistakes. With a list of excluded frames (the code of before 2020,
   which SlowFast took), its frames leave truth and predictions, and predictions in other frames without truth are
   mistakes.
4. Predictions without area (x1 >= x2 or y1 >= y2) are dropped.
5. In a frame and class, best first: a prediction is compared only with the truth of largest IoU (widths without +1). It
   is a hit if that IoU >= the threshold and no better prediction has hit that truth; else a mistake, even where
   another truth would do.
6. AP is the area under precision's envelope at every recall; a class without truth has none and is left out of the
   mean.

Ties. In a frame, the code's order among equal scores is that of a binary heap, and which of them the 50 take depends
on the order of the rows: done here alike. Among all frames of a class it is that of numpy's default sort, which keeps
no order among equals. The code as published runs with numpy up to 1.23 only, whose sort is `introsort` (see
`pipeline.metrics.temporal`): that is the default, and the same on any machine. `installed` is what a patched copy of
the code gives beside this one.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import iou_rows
from pipeline.metrics.pairs import Floats, Ints, pairs_of_same_key
from pipeline.metrics.temporal import Ties, falling_order
from schemas.annotation import BoxTable

Bools = NDArray[np.bool_]
Frame = tuple[str, float]  # a video's name and a second


@dataclass(frozen=True, slots=True)
class AvaCounts:
    """Frames of the truth, and what became of the predictions. These are `used` or one of other_class, beyond_cap,
    excluded, elsewhere (unless elsewhere_used) and no_area."""

    frames: int  # annotated, without those excluded
    frames_predicted: int  # of these, with a prediction
    used: int
    other_class: int
    beyond_cap: int
    excluded: int
    elsewhere: int  # in frames that the truth does not have
    elsewhere_used: bool  # as mistakes; else ignored
    no_area: int


@dataclass(frozen=True, slots=True, eq=False)
class AvaResult:
    """AP (K,) of K classes in [0, 1], NaN for a class without truth; its number of true and of used boxes (K,)."""

    labels: tuple[str, ...]
    average_precision: Floats
    num_truth: Ints
    num_predictions: Ints
    counts: AvaCounts

    @property
    def mean_ap(self) -> float:
        """Over the classes that have truth; NaN where none has."""
        present = self.average_precision[self.num_truth > 0]
        return float(np.mean(present)) if len(present) else float("nan")


def frame_map(
    truth: BoxTable,
    predictions: BoxTable,
    *,
    classes: Sequence[int] | None = None,
    empty_frames: Collection[Frame] = (),
    excluded: Collection[Frame] | None = None,
    max_per_frame: int = 50,
    iou: float = 0.5,
    ties: Ties = "introsort",
) -> AvaResult:
    """The frame-mAP of predictions; classes of both tables are joined by name, frames by video name and second (to
    1e-6 s). The truth's labels stand in the order of the class ids.

    classes: into `truth.labels`, those evaluated; None: all. empty_frames: annotated, without any box. excluded: None
    and () differ (rule 3). max_per_frame: 0 for no limit.

    Raises ValueError for predictions without scores and for inverted boxes in the truth, which the code also refuses.
    """
    _check(truth, predictions)
    chosen = np.arange(len(truth.labels)) if classes is None else np.unique(np.asarray(classes, dtype=np.int64))
    frames = _number_frames(truth, predictions, empty_frames, excluded)
    true = _true_rows(truth, frames, chosen)
    predicted, counts = _sift(
        _predicted_rows(truth, predictions, frames),
        frames,
        chosen,
        max_per_frame=max_per_frame,
        elsewhere_used=excluded is not None,
    )
    is_hit = _hits(predicted, true, len(truth.labels), iou)
    num_truth, num_predictions = (
        np.bincount(rows.label, minlength=len(truth.labels))[chosen] for rows in (true, predicted)
    )
    ap = np.full(len(chosen), np.nan)
    for index, label in enumerate(chosen):
        if num_truth[index]:
            of_class = predicted.label == label
            order = falling_order(predicted.score[of_class], ties)
            ap[index] = average_precision(is_hit[of_class][order], int(num_truth[index]))
    return AvaResult(tuple(truth.labels[label] for label in chosen), ap, num_truth, num_predictions, counts)


def average_precision(is_hit: Bools, num_truth: int) -> float:
    """The area under precision's envelope; is_hit: (N,) of the predictions, best first."""
    found = np.cumsum(is_hit.astype(np.int64))
    precision = found / np.arange(1, len(is_hit) + 1)
    recall = np.concatenate([[0.0], found / num_truth, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.sum((recall[steps + 1] - recall[steps]) * envelope[steps]))


# ---------------------------------------------------------------- which boxes take part, and in what order


class _Rows(NamedTuple):
    """Boxes of truth or predictions: frame (N,), label (N,) into the truth's labels or -1, box (N, 4), score (N,)."""

    frame: Ints
    label: Ints
    box: Floats
    score: Floats

    def take(self, rows: Ints | Bools) -> _Rows:
        return _Rows(self.frame[rows], self.label[rows], self.box[rows], self.score[rows])


class _Frames(NamedTuple):
    """F frames, numbered over everything named: each row's number, and what each frame is."""

    true: Ints  # (N,) of the truth's boxes
    predicted: Ints  # (M,)
    is_annotated: Bools  # (F,)
    is_excluded: Bools  # (F,)


def _number_frames(
    truth: BoxTable, predictions: BoxTable, empty: Iterable[Frame], excluded: Iterable[Frame] | None
) -> _Frames:
    parts = [(table.videos, table.video, table.second) for table in (truth, predictions)]
    for some in (list(empty), list(excluded or ())):
        second = np.array([second for _, second in some], dtype=np.float64)
        parts.append((tuple(name for name, _ in some), np.arange(len(some)), second))
    names: dict[str, int] = {}
    videos = [np.array([names.setdefault(n, len(names)) for n in known], dtype=np.int64)[of] for known, of, _ in parts]
    micros = np.rint(np.concatenate([second for _, _, second in parts]) * 1e6).astype(np.int64)
    instants, instant = np.unique(micros, return_inverse=True)
    _, frame = np.unique(np.concatenate(videos) * len(instants) + instant, return_inverse=True)
    ends = np.cumsum([len(part) for part in videos])
    true, predicted, without, out = np.split(frame, ends[:-1])
    is_annotated, is_excluded = (np.zeros(frame.max(initial=-1) + 1, dtype=bool) for _ in range(2))
    is_annotated[true] = is_annotated[without] = True
    is_excluded[out] = True
    return _Frames(true, predicted, is_annotated, is_excluded)


def _true_rows(truth: BoxTable, frames: _Frames, chosen: Ints) -> _Rows:
    # what stands in the eighth column is read as a score, here a person's number; without one it is 1
    score = np.where(truth.entity < 0, 1, truth.entity).astype(np.float64)
    rows = _Rows(frames.true, truth.label, truth.box, score).take(
        np.isin(truth.label, chosen) & ~frames.is_excluded[frames.true]
    )
    return rows.take(_order_read(rows, 0))


def _predicted_rows(truth: BoxTable, predictions: BoxTable, frames: _Frames) -> _Rows:
    number = {name: index for index, name in enumerate(truth.labels)}
    label = np.array([number.get(name, -1) for name in predictions.labels], dtype=np.int64)[predictions.label]
    assert predictions.score is not None
    return _Rows(frames.predicted, label, predictions.box, predictions.score)


def _sift(
    rows: _Rows, frames: _Frames, chosen: Ints, *, max_per_frame: int, elsewhere_used: bool
) -> tuple[_Rows, AvaCounts]:
    """Rules 1 to 4: the predictions that are compared, in the code's order."""
    known = rows.take(np.isin(rows.label, chosen))
    kept = known.take(_order_read(known, max_per_frame))
    is_excluded = frames.is_excluded[kept.frame]
    is_elsewhere = ~frames.is_annotated[kept.frame] & ~is_excluded
    in_play = ~is_excluded & (~is_elsewhere | elsewhere_used)
    has_area = (kept.box[:, :2] < kept.box[:, 2:]).all(axis=1)
    annotated = frames.is_annotated & ~frames.is_excluded
    used = kept.take(in_play & has_area)
    return used, AvaCounts(
        frames=int(annotated.sum()),
        frames_predicted=int(annotated[np.unique(kept.frame)].sum()),
        used=len(used.frame),
        other_class=len(rows.frame) - len(known.frame),
        beyond_cap=len(known.frame) - len(kept.frame),
        excluded=int(is_excluded.sum()),
        elsewhere=int(is_elsewhere.sum()),
        elsewhere_used=elsewhere_used,
        no_area=int((in_play & ~has_area).sum()),
    )


def _order_read(rows: _Rows, capacity: int) -> Ints:
    """Which rows the code keeps, in its order: frames as they first appear, in a frame best first."""
    _, first, inverse = np.unique(rows.frame, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))[inverse]
    order = np.lexsort((rows.label, -rows.score, appearance))
    frame, score, label = appearance[order], rows.score[order], rows.label[order]
    rank = np.arange(len(order)) - np.searchsorted(frame, frame)
    # equal scores matter to the order in a class, and where the limit divides them
    is_tied = (frame[1:] == frame[:-1]) & (score[1:] == score[:-1])
    is_tied &= (label[1:] == label[:-1]) | (rank[1:] == capacity)
    by_heap = np.unique(frame[1:][is_tied])
    kept = order[(rank < capacity) | (capacity < 1)]
    if not len(by_heap):
        return kept
    starts, ends = (np.searchsorted(frame, by_heap, side=side) for side in ("left", "right"))
    heaps = [_heap_order(rows, np.sort(order[start:end]), capacity) for start, end in zip(starts, ends, strict=True)]
    kept = np.concatenate([kept[~np.isin(appearance[kept], by_heap)], *heaps])
    return kept[np.argsort(appearance[kept], kind="stable")]


def _heap_order(rows: _Rows, of_frame: Ints, capacity: int) -> Ints:
    """The same for the rows of one frame, with the heap that the code fills row by row: it holds score, class and box,
    compared in that order, gives up its smallest, and is then sorted by score alone, stably."""
    entries = [
        (score, label, y1, x1, y2, x2)
        for score, label, (x1, y1, x2, y2) in zip(
            rows.score[of_frame].tolist(), rows.label[of_frame].tolist(), rows.box[of_frame].tolist(), strict=True
        )
    ]
    heap: list[tuple[float, ...]] = []
    for entry in entries:
        if capacity < 1 or len(heap) < capacity:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    rows_of: dict[tuple[float, ...], list[int]] = {}
    for entry, row in zip(entries, of_frame.tolist(), strict=True):
        rows_of.setdefault(entry, []).append(row)  # equal entries are the same box twice: either will do
    return np.array([rows_of[entry].pop() for entry in sorted(heap, key=lambda entry: -entry[0])], dtype=np.int64)


# ---------------------------------------------------------------- hits


def _hits(predicted: _Rows, true: _Rows, num_labels: int, threshold: float) -> Bools:
    """Rule 5: whether each prediction (N,) is a hit; both sides in the code's order."""
    is_hit = np.zeros(len(predicted.frame), dtype=bool)
    rows, truths = pairs_of_same_key(
        predicted.frame * num_labels + predicted.label, true.frame * num_labels + true.label
    )
    if not len(rows):
        return is_hit
    overlap = iou_rows(predicted.box[rows], true.box[truths])
    start = np.flatnonzero(np.diff(rows, prepend=-1))
    largest = np.maximum.reduceat(overlap, start)
    is_largest = overlap == np.repeat(largest, np.diff(start, append=len(rows)))
    candidates, first = np.unique(rows[is_largest], return_index=True)  # of equally large ones the first truth
    match = truths[is_largest][first]
    enough = largest >= threshold
    _, best = np.unique(match[enough], return_index=True)
    is_hit[candidates[enough][best]] = True
    return is_hit


def _check(truth: BoxTable, predictions: BoxTable) -> None:
    if predictions.score is None:
        raise ValueError("predictions have no scores")
    is_inverted = (truth.box[:, :2] > truth.box[:, 2:]).any(axis=1)
    if is_inverted.any():
        row = int(is_inverted.argmax())
        raise ValueError(f"the truth's box in row {row} is inverted: {truth.box[row].tolist()}")
