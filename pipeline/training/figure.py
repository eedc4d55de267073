"""How pictures of a training are drawn: without a display and with matplotlib's own defaults, so that equal data give
equal bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@contextmanager
def plain_style() -> Iterator[None]:
    """matplotlib's defaults, whatever the user's own are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def png_of(figure: Figure) -> bytes:
    """A figure as PNG, 100 pixels an inch."""
    data = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(data, format="png", dpi=100, metadata={"Software": None})  # else matplotlib's version is inside
    return data.getvalue()


def plain_text(name: str) -> str:
    """A name as matplotlib shows it letter by letter: "$" would start a formula."""
    return name.replace("$", r"\$")
