"""Frames for the tests of TV-L1: moving textures, and pairs of the real videos in ../shared/data."""

from pathlib import Path

import cv2
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def moving(height, width, *, count=2, step_px=(1.3, -0.7), seed=0):
    """(count, height, width) uint8: a smooth random texture that moves by (x, y) px a frame, and noise."""
    rng = np.random.default_rng(seed)
    margin = 40
    texture = cv2.GaussianBlur(rng.standard_normal((height + 2 * margin, width + 2 * margin)), (0, 0), 2.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for number in range(count):
        shift = np.float64([[1, 0, step_px[0] * number - margin], [0, 1, step_px[1] * number - margin]])
        frame = cv2.warpAffine(texture, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append(np.rint(frame + rng.normal(0, 1, frame.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def video(name, *, start=30, count=2, step=1, size=None):
    """(count, H, W) uint8: gray frames start, start + step … of a real video; size: (width, height) or as they are."""
    import av

    frames = []
    with av.open(str(shared(f"videos/{name}")), metadata_errors="ignore") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start and (number - start) % step == 0:
                gray = frame.to_ndarray(format="gray")
                frames.append(cv2.resize(gray, size) if size else gray)
            if len(frames) == count:
                break
    return np.stack(frames)
