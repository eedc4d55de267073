"""A contact sheet of what was made: a row a class, a column a moment, read back from the encoded videos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

COLUMNS = 8
MAX_ROWS = 24
CELL_WIDTH_PX = 132
LABEL_WIDTH_PX = 180
CAPTION_PX = 16
GAP_PX = 4
INK, PAPER, ACCENT = (40, 40, 40), 255, (230, 60, 20)


@dataclass(frozen=True, slots=True)
class Row:
    """One video on the sheet. captions: text under each moment's frame; boxes: (x, y, w, h) px in each."""

    title: str
    video: Path
    frames: tuple[int, ...]
    fps: float
    captions: tuple[str, ...] = ()
    boxes: tuple[tuple[tuple[float, float, float, float], ...], ...] = ()


def spread(first: int, end: int) -> tuple[int, ...]:
    """`COLUMNS` frame numbers evenly over [first, end)."""
    return tuple(first + int((end - first - 1) * column / (COLUMNS - 1)) for column in range(COLUMNS))


def contact_sheet(rows: Sequence[Row]) -> np.ndarray:
    """The sheet as uint8 RGB."""
    lines = [_row(row) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        more = np.full((CAPTION_PX, lines[0].shape[1], 3), PAPER, np.uint8)
        _write(more, f"and {len(rows) - MAX_ROWS} more", (6, 12))
        lines.append(more)
    return np.vstack(lines)


def _row(row: Row) -> np.ndarray:
    pictures = read_frames(row.video, row.frames)
    height = round(CELL_WIDTH_PX * pictures[0].shape[0] / pictures[0].shape[1])
    width = LABEL_WIDTH_PX + COLUMNS * (CELL_WIDTH_PX + GAP_PX)
    canvas = np.full((height + CAPTION_PX + GAP_PX, width, 3), PAPER, np.uint8)
    for number, line in enumerate(_wrap(row.title)):
        _write(canvas, line, (6, 18 + 16 * number), size=0.45)
    for column, picture in enumerate(pictures):
        left = LABEL_WIDTH_PX + column * (CELL_WIDTH_PX + GAP_PX)
        cell = cv2.resize(picture, (CELL_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
        for box in row.boxes[column] if row.boxes else ():
            _outline(cell, box, CELL_WIDTH_PX / picture.shape[1])
        canvas[:height, left : left + CELL_WIDTH_PX] = cell
        caption = row.captions[column] if row.captions else ""
        _write(canvas, f"{row.frames[column] / row.fps:.2f} s {caption}", (left, height + 13), size=0.36)
    return canvas


def _wrap(title: str, width: int = 20) -> list[str]:
    """Break a title after underscores and spaces into lines of at most about `width` letters."""
    lines = [""]
    for word in re.split(r"(?<=[_ ])", title):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return lines


def _outline(cell: np.ndarray, box: tuple[float, float, float, float], scale: float) -> None:
    x, y, width, height = (edge * scale for edge in box)
    cv2.rectangle(cell, (round(x), round(y)), (round(x + width) - 1, round(y + height) - 1), ACCENT, 1)


def _write(canvas: np.ndarray, text: str, place: tuple[int, int], *, size: float = 0.4) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)


def read_frames(path: Path, wanted: Sequence[int]) -> list[np.ndarray]:
    """The frames of these numbers, in ascending order; uint8 RGB (H, W, 3) each."""
    found: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            found += [frame.to_ndarray(format="rgb24")] * wanted.count(number)
            if len(found) == len(wanted):
                break
    return found
