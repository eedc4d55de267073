"""A picture of what a localization head found in some videos: frames, the true segments, and the detections below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipeline.metrics.temporal import temporal_iou
from pipeline.training.figure import plain_style, plain_text, png_of
from schemas.annotation import AMBIGUOUS, SegmentTable

NUM_VIDEOS = 6
FrameAt = Callable[[str, float], NDArray[np.uint8] | None]  # (name of a video, second) -> (H, W, 3) RGB

# inches; 100 pixels each
WIDTH, LEFT, RIGHT = 11.0, 0.75, 0.25
TITLE, STRIP, LANE, AXIS, LEGEND_LINE = 0.32, 0.72, 0.2, 0.34, 0.24
LEGEND_COLUMNS = 6
MOST_NAME = 90  # characters of a video's name

# detections of a video: the best of each class that it has, twice as many as there are true segments, and of the others
OTHERS_SHOWN, MOST_SHOWN = 4, 30
AMBIGUOUS_COLOUR = "0.6"
NARROW = 0.025  # share of the width: a detection's score stands in it from here on


@dataclass(frozen=True)
class Panel:
    """One video of the picture. M true segments, P detections, best first; labels index into the classes."""

    name: str
    score: float  # of this video alone, by the head's metric
    covered_s: tuple[float, float]  # by features
    truth_s: NDArray[np.float64]  # (M, 2)
    truth_label: NDArray[np.int64]  # (M,) may be AMBIGUOUS
    found_s: NDArray[np.float64]  # (P, 2)
    found_label: NDArray[np.int64]  # (P,)
    found_score: NDArray[np.float64]  # (P,)
    num_found: int  # of which P are shown


def make_panel(
    name: str, truth: SegmentTable, found: SegmentTable, *, score: float, covered_s: tuple[float, float]
) -> Panel:
    """The panel of a video from its true segments and its detections; their labels have the names of the same classes,
    and indices are those of `found`."""
    assert found.score is not None, "detections have scores"
    places = {label: k for k, label in enumerate(found.labels)}
    class_of = np.array([*(places.get(label, AMBIGUOUS) for label in truth.labels), AMBIGUOUS])
    truth_label = class_of[truth.label]
    shown = _best(found, truth_label)
    return Panel(
        name=name,
        score=score,
        covered_s=covered_s,
        truth_s=np.stack([truth.start_s, truth.end_s], axis=1),
        truth_label=truth_label,
        found_s=np.stack([found.start_s[shown], found.end_s[shown]], axis=1),
        found_label=found.label[shown],
        found_score=found.score[shown],
        num_found=len(found),
    )


def _best(found: SegmentTable, truth_label: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the detections that are shown, best first. The metric ranks each class by itself, so the best of a
    class count, though those of another may all have higher scores."""
    assert found.score is not None, "detections have scores"
    best = np.argsort(-found.score, kind="stable")
    left = {int(label): 2 * int((truth_label == label).sum()) for label in np.unique(truth_label)}
    others = OTHERS_SHOWN
    shown = []
    for row, label in zip(best.tolist(), found.label[best].tolist(), strict=True):
        if left.get(label, 0) > 0:
            left[label] -= 1
        elif others > 0:
            others -= 1
        else:
            continue
        shown.append(row)
    return np.array(shown[:MOST_SHOWN], dtype=np.int64)


def spread(scores: Mapping[str, float], *, num: int = NUM_VIDEOS) -> list[str]:
    """`num` names from the best score to the worst, evenly spread; of equal scores by name."""
    names = sorted(scores, key=lambda name: (-scores[name], name))
    if len(names) <= num:
        return names
    return [names[round(k * (len(names) - 1) / (num - 1))] for k in range(num)]


def matches(panel: Panel, tiou: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which true segments (M,) are found and which detections (P,) find one: best first, each takes the free segment of
    its class with the largest tIoU, from `tiou` on."""
    overlap = temporal_iou(panel.found_s[:, 0], panel.found_s[:, 1], panel.truth_s[:, 0], panel.truth_s[:, 1])  # (P, M)
    taken = np.zeros(len(panel.truth_s), dtype=bool)
    hits = np.zeros(len(panel.found_s), dtype=bool)
    for index, (row, label) in enumerate(zip(overlap, panel.found_label, strict=True)):
        free = np.where((panel.truth_label == label) & ~taken, row, -1.0)
        if len(free) and free.max() >= tiou:
            taken[free.argmax()], hits[index] = True, True
    return taken, hits


def lanes(span_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """(P,) the lane of each of P spans (P, 2): the first in which it overlaps none of those before it."""
    found = np.zeros(len(span_s), dtype=np.int64)
    for index, (start_s, end_s) in enumerate(span_s):
        before = span_s[:index]
        clashing = set(found[:index][(before[:, 0] < end_s) & (start_s < before[:, 1])].tolist())
        found[index] = next(lane for lane in range(index + 1) if lane not in clashing)
    return found


def draw_timeline(
    panels: Sequence[Panel], *, classes: Sequence[str], frame_at: FrameAt, tiou: float, title: str
) -> bytes:
    """A PNG, one block a video: frames above (where `frame_at` gives any), the true segments, and what was found.

    Colour tells the class, opacity the score, in shares of the highest. A detection with a black edge finds a true
    segment at `tiou`; a true segment that is not found is hatched.
    """
    strips = [_strip(panel, frame_at) for panel in panels]
    used = sorted({int(k) for p in panels for k in (*p.truth_label, *p.found_label)} - {AMBIGUOUS})
    colours = dict(zip(used, _colours(len(used)), strict=True)) | {AMBIGUOUS: AMBIGUOUS_COLOUR}
    highest = max([float(panel.found_score.max(initial=0)) for panel in panels], default=0.0) or 1.0
    legend = _legend_entries(panels, classes, colours, tiou)
    heights = [_height(panel, strip) for panel, strip in zip(panels, strips, strict=True)]
    top = TITLE + 0.1 + LEGEND_LINE * -(-len(legend) // LEGEND_COLUMNS)
    height = top + sum(heights) + 0.1
    with plain_style():
        figure = Figure(figsize=(WIDTH, height))
        figure.text(LEFT / WIDTH, 1 - 0.2 / height, plain_text(title), fontsize=11, va="center")
        figure.legend(
            handles=legend,
            loc="upper left",
            bbox_to_anchor=(LEFT / WIDTH, 1 - TITLE / height),
            borderaxespad=0.0,
            ncols=LEGEND_COLUMNS,
            fontsize=8,
            frameon=False,
        )
        at = height - top
        for panel, strip, panel_height in zip(panels, strips, heights, strict=True):
            _draw_panel(figure, panel, strip, colours, tiou=tiou, highest=highest, top=at)
            at -= panel_height
        return png_of(figure)


def _height(panel: Panel, strip: object) -> float:
    num_lanes = 1 + int(lanes(panel.truth_s).max(initial=0)) + 1 + int(lanes(panel.found_s).max(initial=0))
    return TITLE + (STRIP if strip is not None else 0.0) + LANE * num_lanes + AXIS


def _strip(panel: Panel, frame_at: FrameAt) -> list[NDArray[np.uint8] | None] | None:
    """Frames at the middles of equal parts of the video, as many as stand side by side; None where there are none."""
    start_s, end_s = panel.covered_s
    tries = (frame_at(panel.name, start_s + share * (end_s - start_s)) for share in (0.0, 0.25, 0.5, 0.75))
    first = next((frame for frame in tries if frame is not None), None)
    if first is None:
        return None
    height, width = first.shape[:2]
    num = max(1, round((WIDTH - LEFT - RIGHT) / (STRIP * width / height)))
    return [frame_at(panel.name, start_s + (k + 0.5) * (end_s - start_s) / num) for k in range(num)]


def _colours(num: int) -> list[Any]:
    """Colours that can be told apart, as far as there are."""
    if num <= 10:
        return list(colormaps["tab10"].colors[:num])  # type: ignore[attr-defined]
    if num <= 20:
        return list(colormaps["tab20"].colors[:num])  # type: ignore[attr-defined]
    return [colormaps["turbo"](k / (num - 1)) for k in range(num)]


def _legend_entries(
    panels: Sequence[Panel], classes: Sequence[str], colours: Mapping[int, Any], tiou: float
) -> list[Patch]:
    entries = [Patch(color=colour, label=plain_text(classes[k])) for k, colour in colours.items() if k != AMBIGUOUS]
    if any((panel.truth_label == AMBIGUOUS).any() for panel in panels):
        entries.append(Patch(color=AMBIGUOUS_COLOUR, label="Ambiguous"))
    entries.append(Patch(facecolor="white", edgecolor="black", hatch="////", label="true, not found"))
    entries.append(Patch(facecolor="white", edgecolor="black", label=f"found, a hit at tIoU {tiou:g}"))
    return entries


def _draw_panel(
    figure: Figure,
    panel: Panel,
    strip: Any,
    colours: Mapping[int, Any],
    *,
    tiou: float,
    highest: float,
    top: float,
) -> None:
    """One video, from `top` inches above the bottom of the figure down."""
    width, height = figure.get_size_inches()

    def axes(below: float, tall: float) -> Axes:
        place = (LEFT / width, (top - below - tall) / height, (width - LEFT - RIGHT) / width, tall / height)
        made: Axes = figure.add_axes(place)
        made.set(xlim=panel.covered_s)
        return made

    below = TITLE
    name = panel.name if len(panel.name) <= MOST_NAME else f"…{panel.name[-MOST_NAME:]}"
    text = f"{name}   average mAP {panel.score:.2f}, {len(panel.found_s)} of {panel.num_found} detections"
    figure.text(LEFT / width, (top - TITLE + 0.06) / height, plain_text(text), fontsize=9, va="bottom")
    if strip is not None:
        _draw_strip(axes(below, STRIP), strip, panel.covered_s)
        below += STRIP
    of_truth, of_found = lanes(panel.truth_s), lanes(panel.found_s)
    num_truth, num_found = 1 + int(of_truth.max(initial=0)), 1 + int(of_found.max(initial=0))
    bars = axes(below, LANE * (num_truth + num_found))
    found, hits = matches(panel, tiou)
    for lane, span_s, label, is_found in zip(of_truth, panel.truth_s, panel.truth_label, found, strict=True):
        hatch = None if is_found or label == AMBIGUOUS else "////"
        _bar(bars, lane, span_s, colours[int(label)], hatch=hatch, edge="white" if hatch else None)
    rows = zip(of_found, panel.found_s, panel.found_label, panel.found_score, hits, strict=True)
    for lane, span_s, label, score, is_hit in rows:
        opacity = 0.08 + 0.92 * min(max(float(score) / highest, 0.0), 1.0)
        _bar(bars, num_truth + lane, span_s, (colours[int(label)], opacity), edge="black" if is_hit else None)
        bars.text(
            span_s.mean(), num_truth + lane + 0.53, f"{score:.2f}", fontsize=6, ha="center", va="center", clip_on=True
        )
    bars.axhline(num_truth, color="black", lw=0.6)
    bars.set_ylim(num_truth + num_found, 0)
    bars.set_yticks([num_truth / 2, num_truth + num_found / 2], ["true", "found"], fontsize=8)
    bars.tick_params(axis="x", labelsize=8)
    bars.tick_params(axis="y", length=0)
    bars.xaxis.set_major_formatter("{x:g} s")


def _bar(
    axes: Axes, lane: int, span_s: NDArray[np.float64], colour: Any, *, edge: str | None, hatch: Any = None
) -> None:
    start_s, end_s = span_s.tolist()
    axes.barh(
        lane + 0.5,
        end_s - start_s,
        left=start_s,
        height=0.76,
        facecolor=colour,
        edgecolor=edge or "none",
        linewidth=0.9,
        hatch=hatch,
    )


def _draw_strip(axes: Axes, strip: Sequence[NDArray[np.uint8] | None], covered_s: tuple[float, float]) -> None:
    start_s, end_s = covered_s
    edges = np.linspace(start_s, end_s, len(strip) + 1)
    for frame, left, right in zip(strip, edges[:-1], edges[1:], strict=True):
        if frame is None:
            continue
        small = cv2.resize(frame, (round(frame.shape[1] * 144 / frame.shape[0]), 144), interpolation=cv2.INTER_AREA)
        axes.imshow(small, extent=(float(left), float(right), 0, 1), aspect="auto", interpolation="bilinear")
    axes.set(xlim=covered_s, ylim=(0, 1))
    axes.axis("off")
