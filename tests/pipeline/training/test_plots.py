"""Pictures are PNGs of fixed bytes, whatever the user's own matplotlib settings."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from pipeline.training.checkpoint import Epoch
from pipeline.training.plots import draw_confusion, draw_curves

HISTORIES = {
    "lstm": [Epoch(n, 0.1, 1 / n, 1 / n + 0.1, 0.5) for n in range(1, 6)],
    "linear": [Epoch(1, 0.1, 1.0, 1.0, 0.5)],
}


def test_curves_are_fixed_bytes() -> None:
    first = draw_curves(HISTORIES, chance=0.5, title="heads/actions")
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "axes.grid": True}):
        assert draw_curves(HISTORIES, chance=0.5, title="heads/actions") == first
        assert matplotlib.rcParams["lines.linewidth"] == 9  # and the user's settings are as they were
    assert imread(io.BytesIO(first)).shape == (400, 1000, 4)
    assert b"matplotlib" not in first.lower()
    other = HISTORIES | {"linear": [Epoch(1, 0.1, 1.0, 0.2, 0.9)]}
    assert draw_curves(other, chance=0.5, title="heads/actions") != first


@pytest.mark.parametrize("num_classes", [2, 20, 60])
def test_confusion_of_few_and_many_classes(num_classes: int) -> None:
    names = [f"$class_{n}^" for n in range(num_classes)]  # nothing in a name is taken for a formula
    confusion = np.eye(num_classes, dtype=np.int64) * 3
    first = draw_confusion(confusion, names=names, title="heads/actions: lstm on test")
    assert draw_confusion(confusion, names=names, title="heads/actions: lstm on test") == first
    assert imread(io.BytesIO(first)).ndim == 3
