"""Frames of real videos for the benchmarks of networks; drifting noise where there are none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

VIDEOS = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "videos"


def frame_pool(videos: Path, size: tuple[int, int], *, least: int, most: int = 400) -> tuple[list[np.ndarray], str]:
    """At least `least` RGB frames of a (height, width), of real videos at about 5 fps, and where they are from."""
    pool: list[np.ndarray] = []
    for path in sorted(videos.glob("ucf101/*.avi")) + sorted(videos.glob("kinetics/*.mp4")):
        capture = cv2.VideoCapture(str(path))
        while capture.grab() and len(pool) < most:
            found, bgr = capture.retrieve()
            for _ in range(5):
                capture.grab()
            if found:
                pool.append(cv2.cvtColor(cv2.resize(bgr, size[::-1]), cv2.COLOR_BGR2RGB))
    if len(pool) >= least:
        return pool, f"real frames of {videos}"
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 21, 3), np.uint8), size[::-1])
    return [np.roll(noise, 2 * t, axis=1) for t in range(most)], "drifting noise"
