"""Several labels a row: mean average precision as each benchmark's own code has it, and hit@k.

Average precision of a class: rows by score, best first; the mean, over the rows that have the label, of the precision
down to there. The benchmarks' codes agree on that, not on the rest:

    protocol            equal scores         a class that no row has      from
    charades_classify   in the rows' order   nan, and so is the mean      Charades_v1_classify.m; see below
    charades_localize   in the rows' order   nan, and so is the mean      Charades_v1_localize.m, 25 rows a video
    multithumos         in the rows' order*  0, and it counts             apmeter.py of piergiaj/super-events-cvpr18
    mmaction2           count at once        left out of the mean         mean_average_precision of mmaction2
    sklearn             count at once        0, and it counts             average_precision_score of scikit-learn

* apmeter.py leaves it to torch.sort, which promises none.
"In the rows' order" makes a benchmark's number depend on the order of its list: give rows in that order. Equal scores
that count at once are one step of the curve: each of their labels gets the precision down to the last of them. Without
equal scores all five agree on the classes that rows have.

charades_classify: a test video without any action stays at -inf in the official code, whatever was predicted for it
(its id is not read), so its scores count for nothing here too. In both Charades protocols a row without a prediction
has scores of -inf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.classification import ranking

Protocol = Literal["charades_classify", "charades_localize", "multithumos", "mmaction2", "sklearn"]
Ties = Literal["in_order", "at_once"]

CHARADES_INSTANTS = 25  # a video


@dataclass(frozen=True, slots=True)
class _Rule:
    ties: Ties
    no_rows: Literal["nan", "zero", "left_out"]  # what a class that no row has does to the mean
    unlabelled_last: bool = False


_RULES: Mapping[Protocol, _Rule] = MappingProxyType(
    {
        "charades_classify": _Rule("in_order", "nan", unlabelled_last=True),
        "charades_localize": _Rule("in_order", "nan"),
        "multithumos": _Rule("in_order", "zero"),
        "mmaction2": _Rule("at_once", "left_out"),
        "sklearn": _Rule("at_once", "zero"),
    }
)


@dataclass(frozen=True)
class MultiLabelResult:
    """Average precisions in [0, 1]."""

    mean_ap: float
    weighted_ap: float  # classes weighted by their rows (Charades' WAP, scikit-learn's "weighted")
    per_class: NDArray[np.float64]  # (K,)
    num_rows: NDArray[np.int64]  # (K,) rows that have the class


def mean_average_precision(
    scores: NDArray[np.floating], targets: NDArray[np.generic], *, protocol: Protocol
) -> MultiLabelResult:
    """mAP over classes of scores (N, K) against targets (N, K), bool or 0 and 1, by a benchmark's own rules.

    Raises ValueError where shapes differ, a target is neither 0 nor 1, or a score is nan (or infinite, for protocols
    that have no place for a row without a prediction).
    """
    rule = _RULES[protocol]
    truth = _checked(scores, targets, finite=rule.ties == "at_once")
    if rule.unlabelled_last:
        scores = np.where(truth.any(axis=1, keepdims=True), scores, -np.inf)
    columns = zip(scores.T, truth.T, strict=True)
    per_class = np.array([average_precision(*column, ties=rule.ties) for column in columns], dtype=np.float64)
    num_rows = truth.sum(axis=0)
    if rule.no_rows == "zero":
        per_class[num_rows == 0] = 0.0
    counted = num_rows > 0 if rule.no_rows == "left_out" else np.ones(len(num_rows), dtype=bool)
    weighted = per_class[counted] * num_rows[counted]
    return MultiLabelResult(
        mean_ap=_ratio(per_class[counted].sum(), counted.sum()),
        weighted_ap=_ratio(weighted.sum(), num_rows.sum()),
        per_class=per_class,
        num_rows=num_rows,
    )


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, ties: Ties) -> float:
    """Average precision of one class from scores (N,) and truth (N,); nan where no row is true."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])  # (N,) true rows so far
    precision = found / np.arange(1, len(order) + 1)
    if ties == "at_once":
        precision = precision[_last_of_equals(scores[order])]
    return _ratio(precision[truth[order]].sum(), truth.sum())


def hit_at_k(scores: NDArray[np.floating], targets: NDArray[np.generic], k: int) -> float:
    """Share of rows that have a label among the k best of scores (N, K): Hit@k of Sports-1M and YouTube-8M.

    Equal scores rank by class, as in `ranking`. A row without labels can't be hit, and counts. Raises ValueError like
    `mean_average_precision`, and where k < 1.
    """
    truth = _checked(scores, targets, finite=False)
    if k < 1:
        raise ValueError(f"k is at least 1, got {k}")
    hits = np.take_along_axis(truth, ranking(scores)[:, :k], axis=1).any(axis=1)
    return _ratio(hits.sum(), len(scores))


def charades_instants_s(length_s: float) -> NDArray[np.float64]:
    """The seconds (25,) of a video at which Charades_v1_localize.m looks: the first is 0, and the end is none."""
    return np.arange(CHARADES_INSTANTS) / CHARADES_INSTANTS * length_s


def active_at(
    instants_s: NDArray[np.float64],
    *,
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    label: NDArray[np.integer],
    num_classes: int,
) -> NDArray[np.bool_]:
    """Which classes (T, K) segments (M,) make active at instants (T,). Charades' rule: both ends are in the segment."""
    inside = (start_s <= instants_s[:, None]) & (instants_s[:, None] <= end_s)  # (T, M)
    active = np.zeros((len(instants_s), num_classes), dtype=bool)
    instant, segment = np.nonzero(inside)
    active[instant, label[segment]] = True
    return active


def _last_of_equals(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each of the sorted values (N,), the index of the last that equals it."""
    lasts = np.flatnonzero(np.diff(values, append=np.nan) != 0)
    return lasts[np.searchsorted(lasts, np.arange(len(values)))]


def _checked(scores: NDArray[np.floating], targets: NDArray[np.generic], *, finite: bool) -> NDArray[np.bool_]:
    """The targets as bool (N, K)."""
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(f"scores and targets are (N, K) alike, got {scores.shape} and {targets.shape}")
    bad = ~(np.isfinite(scores) if finite else ~np.isnan(scores) & (scores != np.inf))
    if bad.any():
        raise ValueError(f"scores hold {scores[bad][0]} in {int(bad.any(axis=1).sum())} of {len(scores)} rows")
    truth: NDArray[np.bool_] = np.asarray(targets == 1)
    if not (truth | (targets == 0)).all():
        raise ValueError(f"targets are 0 or 1, got {targets[~truth & (targets != 0)][0]}")
    return truth


def _ratio(part: float, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
