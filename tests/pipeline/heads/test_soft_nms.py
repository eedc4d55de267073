"""Soft-NMS against the plain double loop, and by hand where one can see the answer."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.heads.soft_nms import Method, soft_nms

METHODS = get_args(Method)


def tiou(a: Any, b: Any) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inter / ((a[1] - a[0]) + (b[1] - b[0]) - inter)


def by_loop(span: Any, score: Any, label: Any, *, method: str, agnostic: bool, keep: int) -> list[tuple[int, float]]:
    """Each class by itself, then all of them sorted: what the one loop over all classes must give."""
    outcome: list[tuple[int, float]] = []
    for group in [set(label.tolist())] if agnostic else [{k} for k in label.tolist()]:
        rest = {i: float(score[i]) for i in range(len(score)) if label[i] in group and score[i] >= 0.05}
        while rest:
            best = min(rest, key=lambda i: (-rest[i], i))
            outcome.append((best, rest.pop(best)))
            for i in list(rest):
                overlap = tiou(span[best], span[i])
                if method == "gaussian":
                    rest[i] *= math.exp(-(overlap**2) / 0.3)
                elif overlap >= 0.4:
                    rest[i] *= 1 - overlap if method == "linear" else 0
                if rest[i] < 0.05:
                    del rest[i]
    return sorted(set(outcome), key=lambda pair: (-pair[1], pair[0]))[:keep]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("keep", [7, 1000])
def test_against_a_loop_over_classes_and_pairs(method: Method, agnostic: bool, keep: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        start = rng.integers(0, 30, 60) / 2  # halves, so that many overlaps and scores are equal
        span = np.stack([start, start + rng.integers(1, 20, 60) / 2], 1)
        score, label = rng.integers(0, 20, 60) / 20, rng.integers(0, 3, 60)
        options: dict[str, Any] = {"method": method, "agnostic": agnostic, "keep": keep}
        kept, scores = soft_nms(span, score, label, sigma=0.3, tiou=0.4, min_score=0.05, **options)
        expected = by_loop(span, score, label, **options)
        assert kept.tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(scores, [s for _, s in expected], rtol=1e-12)


def test_by_hand() -> None:
    span = np.array([[0.0, 10.0], [5.0, 10.0], [10.0, 20.0]])  # the second is half of the first; the third only touches
    score, label = np.array([0.8, 0.4, 0.6]), np.zeros(3, np.int64)
    kept, scores = soft_nms(span, score, label, sigma=0.5)
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.8, 0.6, 0.4 * math.exp(-0.5)])
    kept, scores = soft_nms(span, score, label, method="linear")
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.8, 0.6, 0.2])
    assert soft_nms(span, score, label, method="hard", min_score=0)[0].tolist() == [0, 2]
    assert soft_nms(span, score, label, method="hard", tiou=0.51)[0].tolist() == [0, 2, 1]


def test_classes_meet_only_when_agnostic() -> None:
    span, score, label = np.array([[0.0, 10.0]] * 2), np.array([0.5, 0.9]), np.array([0, 1])
    assert soft_nms(span, score, label, method="hard")[0].tolist() == [1, 0]
    assert soft_nms(span, score, label, method="hard", agnostic=True)[0].tolist() == [1]


def test_equal_scores_go_in_the_order_of_the_input() -> None:
    span, label = np.array([[0.0, 1.0], [4.0, 5.0], [2.0, 3.0]]), np.array([2, 0, 1])
    assert soft_nms(span, np.full(3, 0.5), label)[0].tolist() == [0, 1, 2]
    assert soft_nms(span, np.full(3, 0.5), label, keep=2)[0].tolist() == [0, 1]


def test_low_scores_nan_and_no_detections_at_all() -> None:
    span, label = np.array([[0.0, 1.0], [4.0, 5.0], [6.0, 7.0]]), np.zeros(3, np.int64)
    assert soft_nms(span, np.array([0.0009, 0.001, np.nan]), label)[0].tolist() == [1]
    kept, scores = soft_nms(np.empty((0, 2)), np.empty(0), np.empty(0, np.int64))
    assert (kept.shape, kept.dtype, scores.shape, scores.dtype) == ((0,), np.int64, (0,), np.float64)
