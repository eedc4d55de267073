"""Single-label classification: top-k accuracy, accuracy per class, confusion matrix.

Ties: classes of equal score rank by index, the lower first, everywhere. So the top-1 of `ranking` is numpy's
argmax, and top-1 accuracy is the diagonal of the confusion matrix. Accuracies are shares in [0, 1]; over no rows
they are nan.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ranking(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Class indices (N, K) of scores (N, K), best first; ties by class index. Raises ValueError on nan."""
    if np.isnan(scores).any():
        raise ValueError(f"scores hold nan in {int(np.isnan(scores).any(axis=1).sum())} of {len(scores)} rows")
    return np.argsort(-scores, axis=1, kind="stable")


def top_k_accuracy(scores: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> float:
    """Share of rows whose label (N,) is among the k best scores (N, K). With fewer classes than k, k = K."""
    _check(labels, scores.shape[1])
    if k < 1:
        raise ValueError(f"k is at least 1, got {k}")
    if len(labels) == 0:
        return float("nan")
    return float((ranking(scores)[:, :k] == labels[:, None]).any(axis=1).mean())


def confusion_matrix(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Counts (K, K) int64: row = label (N,), column = predicted (N,)."""
    _check(labels, num_classes)
    _check(predicted, num_classes)
    cells = labels.astype(np.int64) * num_classes + predicted
    return np.bincount(cells, minlength=num_classes * num_classes).reshape(num_classes, num_classes)


def per_class_accuracy(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each class's rows that were predicted right (K,); nan for a class without rows."""
    num_rows = confusion.sum(axis=1)
    right = confusion.diagonal().astype(np.float64)
    return np.divide(right, num_rows, out=np.full(len(right), np.nan), where=num_rows > 0)


def mean_class_accuracy(confusion: NDArray[np.int64]) -> float:
    """The mean of `per_class_accuracy` over the classes that have rows; nan where none has."""
    accuracies = per_class_accuracy(confusion)
    present = ~np.isnan(accuracies)
    return float(accuracies[present].mean()) if present.any() else float("nan")


def _check(classes: NDArray[np.integer], num_classes: int) -> None:
    if len(classes) and (classes.min() < 0 or classes.max() >= num_classes):
        raise ValueError(f"classes lie in 0..{num_classes - 1}, got {classes.min()}..{classes.max()}")
