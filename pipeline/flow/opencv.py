"""The opencv backend: `cv2.optflow.DualTVL1OpticalFlow` itself, the reference that the others are held against."""

import cv2
import numpy as np

from pipeline.flow.params import TVL1Params
from schemas.errors import UsageError


def unavailable() -> str | None:
    """Why this backend can't be used here, as a sentence; None where it can."""
    if not hasattr(cv2, "optflow"):
        return "OpenCV has no `optflow` module here; install opencv-contrib-python-headless in place of opencv-python"
    return None


def flow_pairs(prev: np.ndarray, following: np.ndarray, *, params: TVL1Params, threads: int) -> np.ndarray:
    """Flow from prev[i] to following[i]: (N, H, W) uint8 or float32 in 0–255 → float32 (N, H, W, 2), px.

    OpenCV's threads are a setting of the whole process; it is set for the time of this call.
    """
    out = np.empty((*prev.shape, 2), np.float32)
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        for i in range(len(prev)):
            # a new object for each pair: a used one keeps the fewer scales of a smaller image
            out[i] = _algorithm(params).calc(*_as_opencv_takes(prev[i], following[i]), None)
    finally:
        cv2.setNumThreads(before)
    return out


def flow_sequence(frames: np.ndarray, *, params: TVL1Params, threads: int) -> np.ndarray:
    """Flow between neighbours: (T, H, W) → float32 (T − 1, H, W, 2), px. OpenCV shares nothing between pairs."""
    return flow_pairs(frames[:-1], frames[1:], params=params, threads=threads)


def _as_opencv_takes(*pair: np.ndarray) -> list[np.ndarray]:
    """Both uint8, or both float32 in 0–1, which OpenCV multiplies by 255 again: the last bit of a value may change."""
    whole = [np.ascontiguousarray(frame, np.uint8) for frame in pair]
    if all(np.array_equal(*frames) for frames in zip(whole, pair, strict=True)):
        return whole
    return [np.ascontiguousarray(frame / np.float32(255)) for frame in pair]


def _algorithm(params: TVL1Params):  # type: ignore[no-untyped-def]
    missing = unavailable()
    if missing:
        raise UsageError(missing)
    return cv2.optflow.DualTVL1OpticalFlow_create(  # type: ignore[attr-defined]
        tau=params.tau,
        lambda_=params.lambda_,
        theta=params.theta,
        nscales=params.num_scales,
        warps=params.num_warps,
        epsilon=params.epsilon,
        innnerIterations=params.inner_iterations,  # spelt so in OpenCV
        outerIterations=params.outer_iterations,
        scaleStep=params.scale_step,
        gamma=params.gamma,
        medianFiltering=params.median_filtering,
        useInitialFlow=False,
    )
