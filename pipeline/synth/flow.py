"""True optical flow of a scene.

Convention: `flow[i, y, x] = (u, v)` in pixels says that what is seen at (x, y) in frame i is at (x + u, y + v) in
frame i + 1, x right and y down, at the video's own fps. `valid` is false where that place is hidden, outside the
frame, or not defined: behind an actor, and on an actor in the frame where its size wraps from one end to the other.
"""

from __future__ import annotations

from typing import IO

import numpy as np

from pipeline.synth.scene import Scene


def frame_flow(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow from `frame` to the next, float32 (height_px, width_px, 2), and validity, bool (height_px, width_px)."""
    layers, following = scene.layers(frame), scene.layers(frame + 1)
    height, width = layers.shape
    flow = np.empty((height, width, 2), np.float32)
    flow[:] = scene.camera[frame + 1] - scene.camera[frame]
    valid = np.ones((height, width), bool)
    for copy in scene.copies(frame):
        top, left, bottom, right = _window(copy.bounds, height, width)
        # two copies of one actor never share a window: they are a frame apart, and smaller than that
        down, across = np.nonzero(layers[top:bottom, left:right] == copy.actor + 1)
        points = np.stack([across + left, down + top], axis=1).astype(np.float64)
        moved = _next_place(scene, copy.actor, frame, copy.matrix, points)
        flow[down + top, across + left] = moved - points
        if scene.actors[copy.actor].cuts[frame]:
            valid[down + top, across + left] = False
    return flow, valid & _stays_seen(flow, layers, following)


def video_flow(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Flow of all pairs, float16 (N - 1, height_px, width_px, 2), and validity, bool (N - 1, height_px, width_px).

    float16 is exact to 1/128 px up to 16 px.
    """
    pairs = [frame_flow(scene, frame) for frame in range(scene.plan.num_frames - 1)]
    return np.stack([flow for flow, _ in pairs]).astype(np.float16), np.stack([valid for _, valid in pairs])


def write_flow(scene: Scene, file: IO[bytes]) -> None:
    """An .npz with arrays `flow` and `valid`; see `video_flow`."""
    flow, valid = video_flow(scene)
    np.savez_compressed(file, flow=flow, valid=valid)


def _window(bounds: tuple[float, float, float, float], height: int, width: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = bounds
    return max(0, int(y1) - 2), max(0, int(x1) - 2), min(height, int(y2) + 4), min(width, int(x2) + 4)


def _next_place(scene: Scene, number: int, frame: int, matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where points of an actor's copy are in the next frame; (P, 2) px."""
    actor = scene.actors[number]
    laps = actor.laps[frame + 1] - actor.laps[frame]
    onward = actor.matrices[frame + 1].copy()
    # the same copy, not the one that the next frame lists first: undo a wrap, and follow this copy's own shift
    onward[:, 2] += laps * (scene.spec.width_px, scene.spec.height_px) + matrix[:, 2] - actor.matrices[frame][:, 2]
    on_patch = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return on_patch @ onward[:, :2].T + onward[:, 2]


def _stays_seen(flow: np.ndarray, layers: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Where the target is inside the frame and the next frame shows the same layer there."""
    height, width = layers.shape
    down, across = np.indices(layers.shape)
    x, y = across + flow[..., 0], down + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    near_x = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    near_y = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    return np.asarray(inside & (following[near_y, near_x] == layers))
