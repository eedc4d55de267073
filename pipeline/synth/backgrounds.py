"""Real backgrounds: one picture of a folder of images and videos for each synthetic video."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import av
import cv2
import numpy as np

from schemas.errors import ReelmillError, UsageError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
LATEST_FRAME = 100  # a video's picture is one of its first frames, so that long videos cost no more than short ones


@lru_cache(maxsize=4)
def list_backgrounds(folder: str) -> tuple[Path, ...]:
    """The images and videos below a folder, in order of their paths. Raises UsageError where there are none."""
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder}: no such folder of backgrounds")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGES | VIDEOS and path.is_file())
    if not found:
        raise UsageError(f"{folder}: no images or videos in this folder of backgrounds")
    return tuple(found)


def backgrounds_identity(folder: str) -> str:
    """A hash of the names and sizes of a folder's images and videos."""
    rows = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in list_backgrounds(folder)]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def pick_background(folder: str, rng: np.random.Generator, *, height_px: int, width_px: int) -> tuple[np.ndarray, str]:
    """A random picture, cut to the aspect and resized, float32 RGB (height_px, width_px, 3), and its file's path.

    A file that can't be read gives way to another. Raises ReelmillError where none can be read.
    """
    paths = list_backgrounds(folder)
    for number in rng.permutation(len(paths)):
        frame = int(rng.integers(LATEST_FRAME))
        picture = _read(paths[number], frame)
        if picture is not None:
            name = paths[number].relative_to(folder).as_posix()
            return _fit(picture, height_px=height_px, width_px=width_px), name
    raise ReelmillError(f"{folder}: none of the {len(paths)} images and videos in this folder can be read")


def _read(path: Path, frame: int) -> np.ndarray | None:
    """An image, or frame number `frame` of a video (its last, if it is shorter); uint8 RGB, or None."""
    if path.suffix.lower() in IMAGES:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    last = None
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            for number, picture in enumerate(container.decode(video=0)):
                last = picture
                if number == frame:
                    break
    except (av.FFmpegError, IndexError):
        pass  # what decoded before the damage will do
    return None if last is None else last.to_ndarray(format="rgb24")


def _fit(picture: np.ndarray, *, height_px: int, width_px: int) -> np.ndarray:
    """The largest centred part of the wanted aspect, averaged down (or interpolated up) to size."""
    height, width = picture.shape[:2]
    scale = min(height / height_px, width / width_px)
    tall, wide = max(1, round(height_px * scale)), max(1, round(width_px * scale))
    top, left = (height - tall) // 2, (width - wide) // 2
    part = picture[top : top + tall, left : left + wide]
    filter_ = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width_px, height_px), interpolation=filter_).astype(np.float32))
