"""Gray frames of real videos for the flow benchmarks."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
REAL_VIDEOS = (
    "kinetics/R6llTwEh07w.mp4",
    "kinetics/SOX5yA1l24A.mp4",
    "ucf101/v_ApplyEyeMakeup_g01_c01.avi",
    "ucf101/v_BaseballPitch_g01_c01.avi",
    "ucf101/v_CricketShot_g04_c01.avi",
    "ucf101/v_Rowing_g16_c03.avi",
    "ucf101/v_SoccerJuggling_g23_c01.avi",
    "hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "activitynet/v_GGSY1Qvo990.mp4",
    "long/women_long_jump.mp4",
)


def real_videos(given: list[Path]) -> list[Path]:
    """The videos given, or else those of ../shared/data."""
    videos = given or [SHARED / "videos" / name for name in REAL_VIDEOS]
    missing = [str(path) for path in videos if not path.exists()]
    if missing:
        raise SystemExit(f"not found: {', '.join(missing)}; name videos on the command line")
    return videos


def gray_frames(video: Path, *, size: tuple[int, int] | None) -> np.ndarray:
    """All frames (T, H, W) uint8, gray by BT.601, then resized (bilinear) to `size` = (width, height), None: as is."""
    frames = []
    with av.open(str(video), metadata_errors="ignore") as container:
        for frame in container.decode(video=0):
            gray = cv2.cvtColor(frame.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY)
            frames.append(cv2.resize(gray, size, interpolation=cv2.INTER_LINEAR) if size else gray)
    return np.stack(frames)


def spread_pairs(frames: np.ndarray, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """`num_pairs` pairs of neighbouring frames, spread evenly over the video."""
    first = np.linspace(0, len(frames) - 2, num_pairs).round().astype(int)
    return frames[first], frames[first + 1]
