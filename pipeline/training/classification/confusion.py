"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.training.figure import plain_style, plain_text, png_of

MOST_NAMES = 40  # classes beyond this are not named along the axes
MOST_COUNTS = 15  # cells of bigger matrices are colour only


def draw_confusion(confusion: NDArray[np.int64], *, names: Sequence[str], title: str) -> bytes:
    """A PNG of a confusion matrix (K, K): each row coloured by its share, so that rare classes show."""
    num_classes = len(names)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    with plain_style():
        side = min(12.0, 3 + 0.35 * num_classes)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, label="share of the row", shrink=0.8)
        if num_classes <= MOST_NAMES:
            shown = [plain_text(name) for name in names]
            axes.set_xticks(range(num_classes), shown, rotation=90)
            axes.set_yticks(range(num_classes), shown)
        if num_classes <= MOST_COUNTS:
            for (row, column), count in np.ndenumerate(confusion):
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        axes.set(xlabel="predicted", ylabel="label", title=title)
        return png_of(figure)
