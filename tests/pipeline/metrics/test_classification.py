"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from pipeline.metrics.classification import (
    confusion_matrix,
    mean_class_accuracy,
    per_class_accuracy,
    ranking,
    top_k_accuracy,
)

SCORES = np.array(
    [
        [0.7, 0.2, 0.1],  # label 0: first
        [0.3, 0.4, 0.3],  # label 0: second (ties with 2, lower index first)
        [0.3, 0.4, 0.3],  # label 2: third
        [0.1, 0.1, 0.8],  # label 1: third (ties with 0, which comes first)
    ],
    dtype=np.float32,
)
LABELS = np.array([0, 0, 2, 1])


@pytest.mark.parametrize(("k", "expected"), [(1, 0.25), (2, 0.5), (3, 1.0), (5, 1.0)])
def test_top_k_counts_the_rows_whose_label_is_among_the_k_best(k: int, expected: float) -> None:
    assert top_k_accuracy(SCORES, LABELS, k) == expected


def test_ties_rank_by_class_index() -> None:
    assert ranking(np.zeros((2, 4))).tolist() == [[0, 1, 2, 3]] * 2
    assert ranking(SCORES)[1].tolist() == [1, 0, 2]
    # constant scores are no better than always answering class 0
    assert top_k_accuracy(np.ones((10, 5)), np.arange(10) % 5, 1) == 0.2


def test_confusion_per_class_and_mean() -> None:
    predicted = ranking(SCORES)[:, 0]
    confusion = confusion_matrix(LABELS, predicted, 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert per_class_accuracy(confusion).tolist() == [0.5, 0.0, 0.0]
    assert mean_class_accuracy(confusion) == pytest.approx(1 / 6)
    assert confusion.diagonal().sum() / confusion.sum() == top_k_accuracy(SCORES, LABELS, 1)


def test_a_class_without_rows_is_nan_and_out_of_the_mean() -> None:
    confusion = confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 2]), 4)
    accuracies = per_class_accuracy(confusion)
    assert accuracies[0] == 0.5
    assert accuracies[2] == 1.0
    assert np.isnan(accuracies[[1, 3]]).all()
    assert mean_class_accuracy(confusion) == 0.75


def test_no_rows() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert math.isnan(top_k_accuracy(np.zeros((0, 3)), none, 1))
    confusion = confusion_matrix(none, none, 3)
    assert confusion.shape == (3, 3)
    assert confusion.sum() == 0
    assert math.isnan(mean_class_accuracy(confusion))


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classes lie in 0\.\.2, got 0\.\.3"):
        top_k_accuracy(SCORES, np.array([0, 1, 2, 3]), 1)
    with pytest.raises(ValueError, match=r"got -1\.\.0"):
        confusion_matrix(np.array([-1, 0]), np.array([0, 0]), 2)
    with pytest.raises(ValueError, match="k is at least 1, got 0"):
        top_k_accuracy(SCORES, LABELS, 0)
    with pytest.raises(ValueError, match="nan in 1 of 2 rows"):
        ranking(np.array([[0.0, np.nan], [0.0, 1.0]]))
