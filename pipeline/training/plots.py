"""Pictures of a training, drawn without a display and with matplotlib's own defaults: equal data give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.training.checkpoint import Epoch

MOST_NAMES = 40  # classes beyond this are not named along the axes
MOST_COUNTS = 15  # cells of bigger matrices are colour only


def draw_curves(histories: Mapping[str, Sequence[Epoch]], *, chance: float, title: str) -> bytes:
    """A PNG: the losses on the left, validation accuracy on the right, one colour a model."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, accuracy = figure.subplots(1, 2)
        for index, (name, history) in enumerate(histories.items()):
            colour = f"C{index}"
            epochs = [line.epoch for line in history]
            best = min(history, key=lambda line: line.val_loss)
            losses.plot(epochs, [line.train_loss for line in history], colour, ls="--", label=f"{name}, train")
            losses.plot(epochs, [line.val_loss for line in history], colour, label=f"{name}, val")
            losses.plot([best.epoch], [best.val_loss], colour, marker="o")
            accuracy.plot(epochs, [line.val_top1 for line in history], colour, label=name)
            accuracy.plot([best.epoch], [best.val_top1], colour, marker="o")
        accuracy.axhline(chance, color="0.5", ls=":", label="chance")
        losses.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
        accuracy.set(xlabel="epoch", ylabel="validation top-1", ylim=(0, 1.02))
        losses.legend()
        accuracy.legend()
        figure.suptitle(f"{title} (dots: the epoch that was kept)")
        return _png(figure)


def draw_confusion(confusion: NDArray[np.int64], *, names: Sequence[str], title: str) -> bytes:
    """A PNG of a confusion matrix (K, K): each row coloured by its share, so that rare classes show."""
    num_classes = len(names)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        side = min(12.0, 3 + 0.35 * num_classes)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, label="share of the row", shrink=0.8)
        if num_classes <= MOST_NAMES:
            # "$" would start a formula
            shown = [name.replace("$", r"\$") for name in names]
            axes.set_xticks(range(num_classes), shown, rotation=90)
            axes.set_yticks(range(num_classes), shown)
        if num_classes <= MOST_COUNTS:
            for (row, column), count in np.ndenumerate(confusion):
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        axes.set(xlabel="predicted", ylabel="label", title=title)
        return _png(figure)


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(data, format="png", dpi=100, metadata={"Software": None})  # else matplotlib's version is inside
    return data.getvalue()
