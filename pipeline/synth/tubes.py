"""Boxes: where each actor is in each frame, as tubes, in the structure of UCF101-24's annotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.synth.plan import Stretch
from pipeline.synth.scene import Copy, Scene

MIN_VISIBLE = 0.2  # share of its whole box that must be on screen; of an actor split in four, one piece has a quarter

Box = tuple[float, float, float, float]  # x, y, width, height in px
Piece = tuple[int, tuple[int, int]]  # an actor and which of its copies


@dataclass(frozen=True, slots=True)
class Tube:
    """One piece of an actor performing `label` in frames [start_frame, end_frame), a box a frame.

    boxes_xywh: left, top, width, height in px of the visible part, where pixel i spans [i, i + 1). An actor that
    leaves at one edge and enters at the opposite one is two tubes with two `person_id`s.
    """

    label: str
    person_id: int  # unique in the video
    start_frame: int
    end_frame: int
    boxes_xywh: tuple[Box, ...]


def scene_tubes(scene: Scene) -> list[Tube]:
    """The tubes of every labelled stretch of a video, in order of time, actor and position."""
    person_ids: dict[Piece, int] = {}
    return [tube for stretch in scene.plan.stretches for tube in _stretch_tubes(scene, stretch, person_ids)]


def _stretch_tubes(scene: Scene, stretch: Stretch, person_ids: dict[Piece, int]) -> Iterator[Tube]:
    runs: dict[Piece, list[list[tuple[int, Box]]]] = {}
    for frame in range(stretch.start_frame, stretch.end_frame):
        for copy in scene.copies(frame):
            if stretch.actor not in (None, copy.actor) or (box := visible_box(scene, copy)) is None:
                continue
            pieces = runs.setdefault((copy.actor, copy.lap), [])
            if not pieces or pieces[-1][-1][0] != frame - 1:
                pieces.append([])
            pieces[-1].append((frame, box))
    for who, pieces in runs.items():
        person_id = person_ids.setdefault(who, len(person_ids))
        for piece in pieces:
            boxes = tuple(box for _, box in piece)
            yield Tube(stretch.label, person_id, piece[0][0], piece[-1][0] + 1, boxes)


def visible_box(scene: Scene, copy: Copy) -> Box | None:
    """The box of the part inside the frame as x, y, w, h; None where under `MIN_VISIBLE` of the whole box is inside."""
    frame = np.array([scene.spec.width_px, scene.spec.height_px], dtype=np.float64)
    x1, y1, x2, y2 = (edge + 0.5 for edge in copy.bounds)  # from pixel centres to pixel edges
    low, high = np.array([x1, y1]), np.array([x2, y2])
    inside = np.minimum(high, frame) - np.maximum(low, 0)
    if inside.min() <= 0 or inside.prod() < MIN_VISIBLE * (high - low).prod():
        return None
    if low.min() < 0 or (high > frame).any():
        kept = clip_outline(scene.outline(copy) + 0.5, frame)
        if len(kept) == 0:
            return None
        low, high = kept.min(axis=0), kept.max(axis=0)
    x, y, width, height = (round(float(edge), 2) for edge in (*low, *(high - low)))
    return x, y, width, height


def clip_outline(points: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Ends of the parts of a closed outline's edges (K, 2) that are in [0, size]; (E, 2) (Liang and Barsky 1984)."""
    step = np.roll(points, -1, axis=0) - points
    with np.errstate(divide="ignore", invalid="ignore"):
        at_zero, at_size = -points / step, (size - points) / step  # share of the edge where it crosses
    level = step == 0
    within = (points >= 0) & (points <= size)
    enter = np.where(level, np.where(within, -np.inf, np.inf), np.minimum(at_zero, at_size)).max(axis=1)
    leave = np.where(level, np.where(within, np.inf, -np.inf), np.maximum(at_zero, at_size)).min(axis=1)
    first, last = np.maximum(enter, 0), np.minimum(leave, 1)
    kept = first < last
    ends = [points[kept] + share[kept, None] * step[kept] for share in (first, last)]
    return np.clip(np.concatenate(ends), 0, size)


def tubes_json(scene: Scene, *, video: str) -> dict[str, Any]:
    """All tubes of a video as plain JSON values; `video` is the file's name."""
    return {
        "video": video,
        "num_frames": scene.plan.num_frames,
        "fps": float(scene.spec.rate),
        "width": scene.spec.width_px,
        "height": scene.spec.height_px,
        "background": scene.background_name,
        "tubes": [asdict(tube) for tube in scene_tubes(scene)],
    }
