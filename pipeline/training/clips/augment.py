"""Augmentation of a training clip: what is drawn is drawn once, and done to all of its frames alike.

    crop        a random part of the frame, brought to the size that enters the net
    flip        mirrored, in half of the clips; only where it is asked for, since left and right may be classes
    colours     brightness and contrast, of RGB alone

A clip whose frames were cropped or coloured one by one would hold motion and flicker that no camera saw. Flow is a
field of vectors in px: mirrored, its x changes sign; enlarged, it grows by as much as the picture.
T frames, H×W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from schemas.heads import Augment

Size = tuple[int, int]  # (height, width) in px


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What happens to one clip: the part of its frames in px, and factors of 1 where colours stay."""

    top: int
    left: int
    height: int
    width: int
    is_flipped: bool
    brightness: float
    contrast: float


def draw(settings: Augment, *, frame: Size, size: Size, rng: np.random.Generator) -> Augmentation:
    """What happens to a clip with frames of `frame`, of which parts enter the net at `size`.

    The part has the aspect of `size`. Its sides are a uniform share `crop_scale` of the largest such part, its place
    is uniform, and the factors are uniform in 1 ± brightness and 1 ± contrast. Six numbers are taken from `rng`,
    whatever the settings: turning one of them on leaves the others' draws.
    """
    scale, down, right, mirror, bright, contrasty = rng.random(6)
    low, high = settings.crop_scale
    # px of the frame for each px that enters, of the largest part
    share = min(frame[0] / size[0], frame[1] / size[1]) * (low + (high - low) * scale)
    height, width = (max(1, min(whole, round(side * share))) for whole, side in zip(frame, size, strict=True))
    return Augmentation(
        top=int(down * (frame[0] - height + 1)),
        left=int(right * (frame[1] - width + 1)),
        height=height,
        width=width,
        is_flipped=bool(settings.flip and mirror < 0.5),
        brightness=1 + settings.brightness * (2 * bright - 1),
        contrast=1 + settings.contrast * (2 * contrasty - 1),
    )


def augmented(clip: np.ndarray, drawn: Augmentation, *, size: Size) -> np.ndarray:
    """(T, *size, C) of a clip (T, H, W, C): uint8 RGB, or flow as floating px, of the same dtype. The clip stays.

    Stored levels of flow are to be px before: a level can't be scaled.
    """
    is_flow = clip.shape[3] == 2
    assert np.issubdtype(clip.dtype, np.floating) if is_flow else clip.dtype == np.uint8, clip.dtype
    part = clip[:, drawn.top : drawn.top + drawn.height, drawn.left : drawn.left + drawn.width]
    part = _resized(part, size)
    if is_flow:
        across = -1 if drawn.is_flipped else 1
        part = part * np.array([across * size[1] / drawn.width, size[0] / drawn.height], part.dtype)
    elif (drawn.brightness, drawn.contrast) != (1, 1):
        part = _coloured(part, drawn)
    return np.ascontiguousarray(part[:, :, ::-1] if drawn.is_flipped else part)


def _resized(part: np.ndarray, size: Size) -> np.ndarray:
    if part.shape[1:3] == size:
        return part
    shrinks = part.shape[1] >= size[0] and part.shape[2] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    dtype = np.float32 if part.dtype == np.float16 else part.dtype  # OpenCV resizes no halves
    frames = [cv2.resize(frame.astype(dtype, copy=False), size[::-1], interpolation=how) for frame in part]
    return np.stack(frames).astype(part.dtype, copy=False)


def _coloured(part: np.ndarray, drawn: Augmentation) -> np.ndarray:
    """Values times the brightness; then their distance to the clip's mean times the contrast; cut to 0 to 255."""
    mean = drawn.brightness * part.mean(dtype=np.float64)
    values = drawn.brightness * np.arange(256)
    table = (mean + drawn.contrast * (values - mean)).round().clip(0, 255).astype(np.uint8)
    return table[part]
