"""Tubes by the clock: the boxes at an instant, the seconds of a tube.

Frame i is shown in [first_s + i / fps, first_s + (i + 1) / fps), where first_s is the time of the video's first frame
on the file's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.annotations.columns import BoxColumns, SegmentColumns
from schemas.annotation import BoxTable, SegmentTable, TubeSet, VideoShape
from schemas.errors import UsageError

_ROUNDING = 1e-6  # of a frame: seconds that were counted in frames come back to their frame


def with_shapes(tubes: TubeSet, found: Mapping[str, VideoShape]) -> TubeSet:
    """The same tubes; what the file does not say of a video's rate and size is as `found` has it, by video name."""
    shapes = []
    for name, shape in zip(tubes.videos, tubes.shapes, strict=True):
        other = found.get(name, shape)
        shapes.append(
            VideoShape(
                shape.num_frames or other.num_frames,
                shape.fps or other.fps,
                shape.width or other.width,
                shape.height or other.height,
            )
        )
    return replace(tubes, shapes=tuple(shapes))


def boxes_at(
    tubes: TubeSet, *, video: np.ndarray, second: np.ndarray, first_s: Sequence[float] | np.ndarray | None = None
) -> BoxTable:
    """The boxes of M instants, in their order: of each tube that has the frame shown then, in shares of the frame.

    video: (M,) int, into `tubes.videos`; second: (M,) float64. first_s: (V,), default 0. `entity` is the tube's place
    among the tubes of its video. The result has the tubes' videos and labels; it has scores, the box's or else the
    tube's, where all tubes have one. Raises UsageError where the rate or the size of one of these videos is not known.
    """
    scored = bool(tubes.tubes) and all(tube.score is not None for tube in tubes.tubes)
    columns = BoxColumns(tubes.videos, tubes.labels, scored=scored)
    of_video: list[list[int]] = [[] for _ in tubes.videos]
    for number, tube in enumerate(tubes.tubes):
        of_video[tube.video].append(number)
    for index, time_s in zip(np.asarray(video).tolist(), np.asarray(second).tolist(), strict=True):
        fps, width, height = _known(tubes, index)
        frame = int(np.floor((time_s - (0.0 if first_s is None else first_s[index])) * fps + _ROUNDING))
        for entity, number in enumerate(of_video[index]):
            tube = tubes.tubes[number]
            if tube.start_frame <= frame < tube.end_frame:
                place = frame - tube.start_frame
                box = (tube.boxes[place] / (width, height, width, height)).tolist()
                score = tube.score if tube.box_scores is None else float(tube.box_scores[place])
                columns.add(tubes.videos[index], time_s, box, tube.label, entity=entity, score=score or 0.0)
    return columns.table()


def segments_of(tubes: TubeSet, *, first_s: Sequence[float] | np.ndarray | None = None) -> SegmentTable:
    """When each tube begins and ends, in their order. Raises UsageError where the rate of a video is not known."""
    columns = SegmentColumns(tubes.videos, tubes.labels, scored=any(tube.score is not None for tube in tubes.tubes))
    for tube in tubes.tubes:
        if (fps := tubes.shapes[tube.video].fps) is None:
            raise UsageError(
                f"{tubes.videos[tube.video]}: its tubes come without fps, so frames can't be told in seconds"
            )
        start_s = 0.0 if first_s is None else float(first_s[tube.video])
        span_s = start_s + tube.start_frame / fps, start_s + tube.end_frame / fps
        columns.add(tubes.videos[tube.video], *span_s, tubes.labels[tube.label], tube.score or 0.0)
    return columns.table()


def _known(tubes: TubeSet, video: int) -> tuple[float, int, int]:
    shape = tubes.shapes[video]
    if shape.fps is None or shape.width is None or shape.height is None:
        raise UsageError(
            f"{tubes.videos[video]}: its tubes come without fps, width or height, so boxes can't be placed"
        )
    return shape.fps, shape.width, shape.height
