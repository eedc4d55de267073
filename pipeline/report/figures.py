"""Pictures that stand in the page itself: few, small, and decoded once, so that none is what it says it is not."""

from __future__ import annotations

import base64
from collections.abc import Callable

import cv2
import numpy as np
from markupsafe import Markup

from pipeline.report.page import Picture
from pipeline.stills import decode_still

MOST = 40
WIDEST_PX = 1600
LARGEST_BYTES = 400_000
QUALITY = 88
FULL_COLOUR = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # flow's colours are its meaning
SHRINK = 0.75


class Figures:
    """Gives out pictures until the page has as many as it may have."""

    def __init__(self, most: int = MOST) -> None:
        self.left = most
        self.num_left_out = 0

    def take(self, find: Callable[[], bytes | None], alt: str, caption: str = "") -> Picture | None:
        """The PNG or JPEG that `find` gives, as a picture of the page; None where it gives none or the page is full.

        Raises ValueError for what is no such picture.
        """
        if self.left <= 0:
            self.num_left_out += 1
            return None
        data = find()
        if data is None:
            return None
        pixels = decode_still(data, "rgb")
        self.left -= 1
        uri, (height, width) = _inline(pixels)
        return Picture(uri, alt, width, height, caption)


def _inline(pixels: np.ndarray) -> tuple[Markup, tuple[int, int]]:
    """A data URI of (H,W,3) RGB pixels, scaled until they are small enough, and their (height, width) then: a PNG,
    which is best for what is drawn, or a JPEG."""
    scale = min(1.0, WIDEST_PX / pixels.shape[1])
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    while True:
        small = bgr if scale == 1.0 else _scaled(bgr, scale)
        png = cv2.imencode(".png", small)[1].tobytes()
        if len(png) <= LARGEST_BYTES // 2:
            return _data_uri("png", png), small.shape[:2]
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *FULL_COLOUR])[1].tobytes()
        if len(jpeg) <= LARGEST_BYTES:
            return _data_uri("jpeg", jpeg), small.shape[:2]
        scale *= SHRINK


def _scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))


def _data_uri(kind: str, data: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
