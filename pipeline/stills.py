"""The pictures of shards: JPEG and PNG bytes as arrays, and nothing else.

A shard may come from elsewhere. So OpenCV, which would take a dozen formats whatever a member is called, gets only
these two, and none whose header says more pixels than a frame has: what a small file says may be gigabytes of zeros.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

MAX_PIXELS = 1 << 26  # 8192 x 8192, twice the pixels of 8K video

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# start of frame, in all of JPEG's ways of coding; C4, C8 and CC are tables
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # without a length


def decode_still(data: bytes, mode: Literal["rgb", "gray"]) -> np.ndarray:
    """(H,W,3) uint8 RGB or (H,W) uint8. Raises ValueError where the bytes are no JPEG or PNG, damaged, or too large."""
    height, width = size_of(data)
    if height * width > MAX_PIXELS:
        raise ValueError(f"a picture of {height} x {width} (height x width) is no frame of a video")
    flag = cv2.IMREAD_COLOR if mode == "rgb" else cv2.IMREAD_GRAYSCALE
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError("it is no picture")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if mode == "rgb" else pixels)


def size_of(data: bytes) -> tuple[int, int]:
    """(height, width) in px as the header has it. Raises ValueError for what is neither JPEG nor PNG."""
    if data.startswith(PNG):
        return _number(data, 20, 4), _number(data, 16, 4)
    if not data.startswith(JPEG):
        raise ValueError("it is no picture")
    place = 2
    while True:
        while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] == b"\xff":
            place += 1  # a marker may be preceded by any number of fill bytes
        if data[place : place + 1] != b"\xff":
            raise ValueError("it is no picture")
        marker = _number(data, place + 1, 1)
        if marker in FRAME_MARKERS:
            return _number(data, place + 5, 2), _number(data, place + 7, 2)
        place += 2 if marker in BARE_MARKERS else 2 + max(2, _number(data, place + 2, 2))


def _number(data: bytes, start: int, size: int) -> int:
    if len(data) < start + size:
        raise ValueError("it is no picture")
    return int.from_bytes(data[start : start + size], "big")
