"""Boxes: where each actor is in each frame, as tubes, in the structure of UCF101-24's annotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.synth.plan import Stretch
from pipeline.synth.scene import Copy, Scene

MIN_VISIBLE = 0.25  # share of its box that must be on screen; of an actor split over all edges one piece always has it


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
    boxes_xywh: tuple[tuple[float, float, float, float], ...]


def scene_tubes(scene: Scene) -> list[Tube]:
    """The tubes of every labelled stretch of a video, in order of time, actor and position."""
    person_ids: dict[tuple[int, tuple[int, int]], int] = {}
    return [tube for stretch in scene.plan.stretches for tube in _stretch_tubes(scene, stretch, person_ids)]


def _stretch_tubes(
    scene: Scene, stretch: Stretch, person_ids: dict[tuple[int, tuple[int, int]], int]
) -> Iterator[Tube]:
    runs: dict[tuple[int, tuple[int, int]], list[list[tuple[int, tuple[float, float, float, float]]]]] = {}
    for frame in range(stretch.start_frame, stretch.end_frame):
        for copy in scene.copies(frame):
            box = visible_box(copy, width_px=scene.spec.width_px, height_px=scene.spec.height_px)
            if box is None or stretch.actor not in (None, copy.actor):
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


def visible_box(copy: Copy, *, width_px: int, height_px: int) -> tuple[float, float, float, float] | None:
    """The part of a copy's box inside the frame as x, y, w, h; None where under `MIN_VISIBLE` of it is."""
    x1, y1, x2, y2 = (edge + 0.5 for edge in copy.bounds)  # from pixel centres to pixel edges
    left, top, right, bottom = max(0.0, x1), max(0.0, y1), min(float(width_px), x2), min(float(height_px), y2)
    if right <= left or bottom <= top or (right - left) * (bottom - top) < MIN_VISIBLE * (x2 - x1) * (y2 - y1):
        return None
    return round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)


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
