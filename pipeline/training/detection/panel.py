"""One frame with boxes over it, as the pictures of this room show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke
from numpy.typing import NDArray

from pipeline.training.detection.dataset import DetectionData
from pipeline.training.detection.view import Boxes
from pipeline.training.figure import plain_text

FrameAt = Callable[[str, float], NDArray[np.uint8] | None]  # (video_id, second) -> (H, W, 3) RGB

GREY = 90  # of a frame that is not to be had
OUTSIDE_VIEW = 0.45  # brightness of what the maps do not cover
TEXT_SIZE, LINE_HEIGHT_PX = 6.5, 11.0
TRUTH = "white"


@dataclass(frozen=True)
class Mark:
    """A box (4,) in shares of the shown frame, and what is written at it."""

    box: NDArray[np.float64]
    text: str
    colour: str
    width: float = 2.0  # of its line, points
    opacity: float = 1.0
    dashed: bool = False
    below: bool = False  # the text is at the lower edge; else at the upper one


def colour_of(place: int) -> str:
    """The colour of the class, or of the tube, at a place: ten strong ones, then ten pale ones, then again."""
    tab = matplotlib.colormaps["tab20"]
    return to_hex(tab(2 * (place % 10) + place // 10 % 2))


def line_of(score: float, thin: float, wider: float) -> tuple[float, float]:
    """(width in points, opacity) of what is found with a score: wider and stronger the surer."""
    score = min(1.0, max(0.0, score))
    return thin + wider * score, 0.4 + 0.6 * score


def shorten(name: str, most: int) -> str:
    """A name of at most `most` characters, cut in its middle."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


class Frames:
    """The frames of a head's videos, as its clips have them, and boxes in them."""

    def __init__(self, data: DetectionData, frame_at: FrameAt) -> None:
        self._data, self._at = data, frame_at

    def picture(self, video: int, second: float) -> NDArray[np.uint8]:
        """(H, W, 3) what a video of the maps shows; grey where its clips are gone."""
        found = self._at(self._data.maps.video_ids[video], second)
        return np.full((*self._size(video), 3), GREY, np.uint8) if found is None else self._dim(found, video)

    def place(self, boxes: Boxes) -> Boxes:
        """Boxes (N, 4) in shares of the video's frame, in shares of the part that clips have kept of it."""
        kept = np.asarray(self._data.maps.origin.frame)
        return (boxes - np.tile(kept[:2], 2)) / np.tile(kept[2:] - kept[:2], 2)

    def _size(self, video: int) -> tuple[int, int]:
        height, width = self._data.maps.frame_px[self._data.maps.offsets[video]].tolist()
        return height, width

    def _dim(self, frame: NDArray[np.uint8], video: int) -> NDArray[np.uint8]:
        """Darker where the maps of a video cover nothing."""
        height, width = frame.shape[:2]
        view = self.place(self._data.maps.view[self._data.maps.offsets[video]][None])[0]
        x1, y1, x2, y2 = np.rint(view * [width, height, width, height]).astype(int).clip(0)
        dark = (frame * OUTSIDE_VIEW).astype(np.uint8)
        dark[y1:y2, x1:x2] = frame[y1:y2, x1:x2]
        return dark


def draw_panel(axes: Axes, picture: NDArray[np.uint8], marks: Sequence[Mark]) -> None:
    """A picture (H, W, 3) in `axes`, the marks over it; later ones lie above earlier ones."""
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), aspect="equal", interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for mark in marks:
        x1, y1, x2, y2 = (mark.box * [width, height, width, height]).tolist()
        outline = Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=mark.colour,
            linewidth=mark.width,
            linestyle=(0, (3, 2)) if mark.dashed else "solid",
            alpha=mark.opacity,
            path_effects=[withStroke(linewidth=mark.width + 1.2, foreground="black", alpha=mark.opacity), Normal()],
        )
        axes.add_patch(outline)
    for mark in marks:
        if mark.text:
            _write(axes, mark, width, height)


def _write(axes: Axes, mark: Mark, width: int, height: int) -> None:
    """The text of a box: outside of it where the picture has room for it, else inside."""
    x, top, right, bottom = (mark.box * [width, height, width, height]).tolist()
    share = height * LINE_HEIGHT_PX * (1 + mark.text.count("\n")) / (axes.get_position().height * _height_px(axes))
    if mark.below:
        y, align = (bottom, "top") if bottom + share <= height else (min(bottom, height), "bottom")
    else:
        y, align = (top, "bottom") if top - share >= 0 else (max(top, 0.0), "top")
    to_left = x > 0.6 * width  # long names are not cut off at the right edge
    axes.text(
        min(right, width) if to_left else max(x, 0.0),
        y,
        plain_text(mark.text),
        fontsize=TEXT_SIZE,
        color="black" if mark.colour == TRUTH else "white",
        ha="right" if to_left else "left",
        va=align,
        clip_on=True,
        bbox={"facecolor": mark.colour, "alpha": 0.75, "pad": 1, "linewidth": 0},
    )


def _height_px(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(figure.get_figheight()) * 100
