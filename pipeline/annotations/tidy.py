"""What can be trained on: segments and boxes that the video has, the rest dropped or clipped by stated rules.

A benchmark's number counts the truth as its file has it; training does not. The end of a video is that of the file
itself: the durations that annotations state are wrong in public files (THUMOS14's json has 89 segments beyond them).

| segment | rule |
|---|---|
| inverted, or of no length | dropped |
| begins before second 0 | dropped |
| begins at the end of the video or after it | dropped |
| begins inside, ends after the video | ends with the video |

| box | rule |
|---|---|
| without a width or a height, or inverted | dropped |
| wholly beyond the frame | dropped |
| partly beyond the frame | clipped to it |

A tube whose box is dropped in some frames is cut there, into as many tubes as remain; so it is at the end of the video.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from pipeline.annotations.report import Problem, Report
from schemas.annotation import BoxTable, SegmentTable, Tube, TubeSet, VideoShape

SpanFault = Literal["segment_before_start", "empty_segment", "inverted_segment"]
SPAN_FAULTS: dict[SpanFault, str] = {
    "segment_before_start": "starts before the video",
    "empty_segment": "is empty",
    "inverted_segment": "is inverted",
}


def span_fault(start_s: float, end_s: float) -> SpanFault | None:
    """What makes [start_s, end_s) no segment of any video, whatever its length."""
    if start_s < 0:
        return "segment_before_start"
    if end_s <= start_s:
        return "empty_segment" if end_s == start_s else "inverted_segment"
    return None


def tidy_segments(table: SegmentTable, report: Report, *, end_s: np.ndarray | None = None) -> SegmentTable:
    """The segments that are in their videos.

    end_s: (V,) float64, where each video ends, NaN where that is unknown; None: unknown for all.
    """
    limit_s = np.full(len(table), np.inf) if end_s is None else end_s[table.video]
    limit_s = np.where(np.isnan(limit_s), np.inf, limit_s)
    bad = (table.start_s < 0) | (table.end_s <= table.start_s)
    after = ~bad & (table.start_s >= limit_s)
    clipped = ~bad & ~after & (table.end_s > limit_s)
    for row in np.flatnonzero(bad):
        kind = span_fault(table.start_s[row], table.end_s[row])
        assert kind is not None, "`bad` and `span_fault` are one rule"
        _note_segment(report, kind, table, row, SPAN_FAULTS[kind])
    for row in np.flatnonzero(after):
        _note_segment(report, "segment_after_end", table, row, f"starts after the video's end at {limit_s[row]:g} s")
    for row in np.flatnonzero(clipped):
        _note_segment(report, "segment_clipped", table, row, f"ends after the video's end at {limit_s[row]:g} s")
    return replace(table, end_s=np.minimum(table.end_s, limit_s)).select(~bad & ~after)


def _note_segment(report: Report, kind: Problem, table: SegmentTable, row: np.intp, what: str) -> None:
    label = table.labels[table.label[row]] if table.label[row] >= 0 else "Ambiguous"
    span = f"[{table.start_s[row]:g}, {table.end_s[row]:g}]"
    report.add(kind, table.videos[table.video[row]], f"{label}: segment {span} {what}")


def tidy_boxes(table: BoxTable, report: Report) -> BoxTable:
    """The boxes that their frames show, clipped to them."""
    low, high = table.box[:, :2], table.box[:, 2:]
    degenerate = np.any(high <= low, axis=1)
    inside = np.clip(table.box, 0, 1)
    outside = ~degenerate & np.any(inside[:, 2:] <= inside[:, :2], axis=1)
    clipped = ~degenerate & ~outside & np.any(inside != table.box, axis=1)
    kinds: list[tuple[Problem, np.ndarray, str]] = [
        ("degenerate_box", degenerate, "has no width or no height"),
        ("box_outside", outside, "is beyond the frame"),
        ("box_clipped", clipped, "is partly beyond the frame"),
    ]
    for kind, rows, what in kinds:
        for row in np.flatnonzero(rows):
            box = ", ".join(f"{edge:g}" for edge in table.box[row])
            report.add(kind, f"{table.videos[table.video[row]]} second {table.second[row]:g}", f"box [{box}] {what}")
    return replace(table, box=inside).select(~degenerate & ~outside)


def tidy_tubes(tubes: TubeSet, report: Report) -> TubeSet:
    """The tubes that their videos show, their boxes clipped to the frame where its size is known."""
    kept: list[Tube] = []
    for tube in tubes.tubes:
        shape, name = tubes.shapes[tube.video], f"{tubes.videos[tube.video]}: {tubes.labels[tube.label]}"
        boxes = np.clip(tube.boxes, 0, _limit(shape))
        good = np.all(tube.boxes[:, 2:] > tube.boxes[:, :2], axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        if shape.num_frames:
            good &= np.arange(tube.start_frame, tube.end_frame) < shape.num_frames
        if not good.all():
            span = f"frames [{tube.start_frame}, {tube.end_frame})"
            detail = f"{(~good).sum()} of {len(good)} boxes are not in the video; the tube is cut there"
            report.add("bad_tube", f"{name}, {span}", detail)
        if changed := int(np.any(boxes != tube.boxes, axis=1)[good].sum()):
            report.add("box_clipped", f"{name} from frame {tube.start_frame}", f"{changed} boxes beyond the frame")
        kept += _runs(replace(tube, boxes=boxes), good)
    return replace(tubes, tubes=tuple(kept))


def _limit(shape: VideoShape) -> np.ndarray:
    size = [np.inf if edge is None else edge for edge in (shape.width, shape.height)]
    return np.array([*size, *size], np.float64)


def _runs(tube: Tube, good: np.ndarray) -> list[Tube]:
    """The parts of a tube whose frames are all good."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    parts = []
    for start, stop in edges.reshape(-1, 2).tolist():
        scores = None if tube.box_scores is None else tube.box_scores[start:stop]
        parts.append(
            replace(tube, start_frame=tube.start_frame + start, boxes=tube.boxes[start:stop], box_scores=scores)
        )
    return parts
