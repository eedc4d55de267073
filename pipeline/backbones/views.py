"""The views of a clip: which places of its frames enter the net, each one row of features.

    1 crop     center
    3 crops    left center right; of frames higher than wide: top center bottom
    10 crops   center top_left top_right bottom_left bottom_right, and their mirror images

A mirrored view ends in _flip. Of flow, a mirrored view also has its horizontal components reversed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Crops = Literal[1, 3, 10]
CENTER = "center"


@dataclass(frozen=True, slots=True)
class View:
    """One view: its name, the top left corner of its crop in px, and whether it is mirrored."""

    name: str
    top: int
    left: int
    is_flipped: bool = False


def num_views(crops: Crops, *, flip: bool) -> int:
    """Views of each clip."""
    return 10 if crops == 10 else crops * (1 + flip)


def views_of(size: tuple[int, int], crop: tuple[int, int] | None, *, crops: Crops, flip: bool) -> list[View]:
    """The views of frames of a (height, width), in the order of their rows. `crop` None is the whole frame."""
    height, width = size
    free = (height - (crop or size)[0], width - (crop or size)[1])  # px that the crop leaves
    middle = (free[0] // 2, free[1] // 2)
    center = View(CENTER, *middle)
    if crops == 10:
        corners = [
            View("top_left", 0, 0),
            View("top_right", 0, free[1]),
            View("bottom_left", free[0], 0),
            View("bottom_right", *free),
        ]
        plain = [center, *corners]
    elif crops == 3 and height > width:
        plain = [View("top", 0, middle[1]), center, View("bottom", free[0], middle[1])]
    elif crops == 3:
        plain = [View("left", middle[0], 0), center, View("right", middle[0], free[1])]
    else:
        plain = [center]
    flipped = [View(f"{view.name}_flip", view.top, view.left, True) for view in plain]
    return [*plain, *flipped] if flip or crops == 10 else plain


def cut(frames: np.ndarray, crop: tuple[int, int] | None, views: list[View]) -> Iterator[np.ndarray]:
    """(T, h, w, C) of each view of (T, H, W, C) frames: uint8 RGB, or flow as uint8 levels or floating px."""
    for view in views:
        height, width = crop or frames.shape[1:3]
        part = frames[:, view.top : view.top + height, view.left : view.left + width]
        yield _mirrored(part) if view.is_flipped else part


def _mirrored(frames: np.ndarray) -> np.ndarray:
    mirrored = frames[:, :, ::-1]
    if frames.shape[3] == 3:
        return mirrored
    mirrored = mirrored.copy()  # flow: what went right goes left; of levels, 255 - q stands for minus what q stands for
    across = mirrored[..., 0]
    mirrored[..., 0] = 255 - across if frames.dtype == np.uint8 else -across
    return mirrored
