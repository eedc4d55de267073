"""The curves of a training, as csv and as a picture of fixed bytes."""

import io

import matplotlib
from matplotlib.image import imread

from pipeline.training.checkpoint import Epoch
from pipeline.training.curves import curves_csv, draw_curves

HISTORIES = {
    "lstm": ([Epoch(n, 0.1, 1 / n, 1 / n + 0.1, 0.5) for n in range(1, 6)], 5),
    "linear": ([Epoch(1, 0.1, 1.0, 1.0, 0.5)], 1),
}


def draw(histories: dict) -> bytes:
    return draw_curves(histories, loss_name="cross-entropy", score_name="top-1", guess=0.5, title="heads/actions")


def test_curves_are_fixed_bytes() -> None:
    first = draw(HISTORIES)
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "axes.grid": True}):
        assert draw(HISTORIES) == first
        assert matplotlib.rcParams["lines.linewidth"] == 9  # and the user's settings are as they were
    assert imread(io.BytesIO(first)).shape == (400, 1000, 4)
    assert b"matplotlib" not in first.lower()
    assert draw(HISTORIES | {"linear": ([Epoch(1, 0.1, 1.0, 0.2, 0.9)], 1)}) != first


def test_the_csv_has_a_line_an_epoch() -> None:
    lines = curves_csv([Epoch(1, 0.1, 1.0, 1 / 3, 0.5)], score_name="mAP at 0.5").decode().splitlines()
    assert lines == ["epoch,lr,train_loss,val_loss,val_mAP_at_0.5", "1,0.1,1.000000,0.333333,0.500000"]
