"""A confusion matrix is drawn in fixed bytes."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.training.classification.confusion import draw_confusion


@pytest.mark.parametrize("num_classes", [2, 20, 60])
def test_confusion_of_few_and_many_classes(num_classes: int) -> None:
    names = [f"$class_{n}^" for n in range(num_classes)]  # nothing in a name is taken for a formula
    confusion = np.eye(num_classes, dtype=np.int64) * 3
    first = draw_confusion(confusion, names=names, title="heads/actions: lstm on test")
    assert draw_confusion(confusion, names=names, title="heads/actions: lstm on test") == first
    assert imread(io.BytesIO(first)).ndim == 3
