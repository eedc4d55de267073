"""Tubes over time, as a picture: for some videos a strip of frames with the tubes' boxes, and when each tube is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.training.detection.dataset import DetectionData
from pipeline.training.detection.panel import TRUTH, FrameAt, Frames, Mark, colour_of, draw_panel, line_of, shorten
from pipeline.training.figure import plain_style, plain_text, png_of
from schemas.annotation import Tube, TubeSet, VideoShape

NUM_VIDEOS, NUM_FRAMES = 4, 8
MOST_TUBES = 8  # found ones of a video
SHOWN_SHARE = 0.4  # found tubes from this share of their video's best score on
MARGIN = 0.1  # of the true tubes' span, to both sides

# inches
FRAME_WIDTH, MOST_HEIGHT, GAP, LEFT, RIGHT = 1.7, 2.2, 0.05, 1.9, 0.15
TITLE, CAPTION, LANE, AXIS = 0.6, 0.28, 0.17, 0.42
MOST_NAME = 26  # characters of a class


@dataclass(frozen=True)
class Lane:
    """A tube of one video, as it is drawn: in seconds of the file's clock, boxes (F, 4) in shares of the frame."""

    label: str
    colour: str
    score: float | None  # None: true
    start_s: float
    fps: float
    boxes: NDArray[np.float64]

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.boxes) / self.fps

    def box_at(self, second: float) -> NDArray[np.float64] | None:
        frame = int(np.floor((second - self.start_s) * self.fps + 1e-6))
        return self.boxes[frame] if 0 <= frame < len(self.boxes) else None


@dataclass(frozen=True)
class Strip:
    """One video: the instants that are shown, its tubes, and what AVA's csv says (its truth has no tubes)."""

    video: int  # of the maps
    seconds: NDArray[np.float64]  # ascending
    true: tuple[Lane, ...]
    found: tuple[Lane, ...]  # best first
    num_found: int
    marked: dict[str, NDArray[np.float64]]  # label -> the seconds at which a true box has it, where truth has no tubes


def draw_tubes(data: DetectionData, tubes: TubeSet, frame_at: FrameAt, *, title: str) -> bytes | None:
    """A PNG of some videos of `tubes`, evenly spread; None where there is none to be shown."""
    strips = [make_strip(data, tubes, place) for place in spread_videos(data, tubes)]
    if not strips:
        return None
    frames = Frames(data, frame_at)
    pictures = [[frames.picture(strip.video, second) for second in strip.seconds.tolist()] for strip in strips]
    heights = [min(MOST_HEIGHT, FRAME_WIDTH * row[0].shape[0] / row[0].shape[1]) for row in pictures]
    lanes_high = [LANE * (len(_true_labels(strip)) + max(1, len(strip.found))) for strip in strips]
    wide = LEFT + NUM_FRAMES * (FRAME_WIDTH + GAP) + RIGHT
    high = TITLE + sum(heights) + sum(lanes_high) + len(strips) * (CAPTION + AXIS)
    with plain_style():
        figure = Figure(figsize=(wide, high))
        figure.text(0.5, 1 - 0.2 / high, plain_text(title), ha="center", va="center", fontsize=11)
        note = "true boxes: dashed white, and bars above; found tubes: a colour each, wider and stronger the surer"
        figure.text(0.5, 1 - 0.43 / high, note, ha="center", va="center", fontsize=8)
        bottom = high - TITLE
        for strip, row, height, lanes in zip(strips, pictures, heights, lanes_high, strict=True):
            caption = plain_text(_caption(data, strip))
            figure.text(LEFT / wide, (bottom - CAPTION * 0.75) / high, caption, fontsize=8.5, va="bottom")
            bottom -= CAPTION + height
            for place, picture in enumerate(row):
                left = LEFT + place * (FRAME_WIDTH + GAP)
                axes = figure.add_axes((left / wide, bottom / high, FRAME_WIDTH / wide, height / high))
                draw_panel(axes, picture, _marks(data, frames, strip, float(strip.seconds[place])))
            bottom -= lanes
            span = len(row) * (FRAME_WIDTH + GAP) - GAP
            _draw_lanes(figure.add_axes((LEFT / wide, bottom / high, span / wide, lanes / high)), strip)
            bottom -= AXIS
        return png_of(figure)


def _caption(data: DetectionData, strip: Strip) -> str:
    count = f"{strip.num_found} tubes found" if strip.num_found != 1 else "1 tube found"
    shown = f", the {len(strip.found)} best are shown" if len(strip.found) < strip.num_found else ""
    return f"{shorten(data.names[strip.video], 60)}   {count}{shown}"


# ---------------------------------------------------------------- what is shown


def spread_videos(data: DetectionData, tubes: TubeSet) -> list[int]:
    """Which of the videos of `tubes`: evenly spread, of those with tubes where there are enough of them."""
    of_video = {tube.video for tube in tubes.tubes}
    if data.tubes is not None:
        true = {data.tubes.videos[tube.video] for tube in data.tubes.tubes}
        of_video |= {place for place, name in enumerate(tubes.videos) if name in true}
    else:
        boxed = {data.truth.videos[video] for video in np.unique(data.truth.video)}
        of_video |= {place for place, name in enumerate(tubes.videos) if name in boxed}
    places = sorted(of_video)
    count = min(NUM_VIDEOS, len(places))
    return [places[k * len(places) // count] for k in range(count)]


def make_strip(data: DetectionData, tubes: TubeSet, place: int) -> Strip:
    """The strip of the video at `place` of `tubes`."""
    name, video = tubes.videos[place], data.names.index(tubes.videos[place])
    shape = tubes.shapes[place]
    known = data.tubes.videos.index(name) if data.tubes is not None and name in data.tubes.videos else None
    first_s = 0.0 if known is None else float(data.first_s[video])
    found = sorted((tube for tube in tubes.tubes if tube.video == place), key=lambda tube: -(tube.score or 0.0))
    least = SHOWN_SHARE * (found[0].score or 0.0) if found else 0.0
    shown = [tube for tube in found[:MOST_TUBES] if (tube.score or 0.0) >= least]
    true = [] if data.tubes is None or known is None else [one for one in data.tubes.tubes if one.video == known]
    lanes = tuple(
        _lane(tube, tubes.labels[tube.label], shape, first_s, colour=colour_of(rank)) for rank, tube in enumerate(shown)
    )
    true_lanes = tuple(
        _lane(tube, data.tubes.labels[tube.label], shape, first_s, colour=TRUTH) for tube in true if data.tubes
    )
    marked = _marked(data, name) if data.tubes is None else {}
    return Strip(
        video=video,
        seconds=_instants(data, video, [*true_lanes] or [*lanes], marked),
        true=true_lanes,
        found=lanes,
        num_found=len(found),
        marked=marked,
    )


def _lane(tube: Tube, label: str, shape: VideoShape, first_s: float, *, colour: str) -> Lane:
    assert shape.fps is not None, "linked tubes say their rate and size"
    size = np.array([shape.width, shape.height] * 2, dtype=np.float64)
    return Lane(label, colour, tube.score, first_s + tube.start_frame / shape.fps, shape.fps, tube.boxes / size)


def _marked(data: DetectionData, name: str) -> dict[str, NDArray[np.float64]]:
    """When a true box of a video has which class."""
    if name not in data.truth.videos:
        return {}
    rows = np.flatnonzero(data.truth.video == data.truth.videos.index(name))
    labels = data.truth.label[rows]
    most = sorted(set(labels.tolist()), key=lambda label: (-int((labels == label).sum()), label))[:MOST_TUBES]
    return {data.truth.labels[label]: np.unique(data.truth.second[rows[labels == label]]) for label in sorted(most)}


def _instants(
    data: DetectionData, video: int, lanes: Sequence[Lane], marked: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Even instants in the span of what is there, a little wider; of AVA's videos keyframes: only they have boxes."""
    windows = data.maps.windows[data.maps.of_video(video)]
    starts = [lane.start_s for lane in lanes] + [float(seconds[0]) for seconds in marked.values()]
    ends = [lane.end_s for lane in lanes] + [float(seconds[-1]) for seconds in marked.values()]
    low, high = min(starts, default=windows[0, 0]), max(ends, default=windows[:, 2].max())
    margin = MARGIN * (high - low)
    low, high = max(windows[0, 0], low - margin), min(windows[:, 2].max(), high + margin)
    if not marked:
        return np.asarray(low + (np.arange(NUM_FRAMES) + 0.5) * (high - low) / NUM_FRAMES)
    keys = np.unique(data.keys.second[data.keys.video == video])
    keys = keys[(keys >= low) & (keys <= high)]
    count = min(NUM_FRAMES, len(keys))
    return np.asarray(keys[[(2 * k + 1) * len(keys) // (2 * count) for k in range(count)]])


# ---------------------------------------------------------------- how it is drawn


def _marks(data: DetectionData, frames: Frames, strip: Strip, second: float) -> list[Mark]:
    """The boxes of one frame: found ones, the best on top, and above them the true ones."""
    marks = []
    for lane in reversed(strip.found):
        box = lane.box_at(second)
        if box is not None:
            assert lane.score is not None
            width, opacity = line_of(lane.score, 1.0, 1.5)
            marks.append(Mark(frames.place(box[None])[0], "", lane.colour, width=width, opacity=opacity))
    true = [box for lane in strip.true if (box := lane.box_at(second)) is not None]
    if strip.marked:
        name = data.names[strip.video]
        here = (data.truth.video == data.truth.videos.index(name)) & (np.abs(data.truth.second - second) < 1e-6)
        true += list(np.unique(data.truth.box[here], axis=0))
    return marks + [Mark(frames.place(box[None])[0], "", TRUTH, width=1.2, dashed=True) for box in true]


def _true_labels(strip: Strip) -> list[str]:
    """The classes of the true tubes, in the order in which they begin: one row each, as there may be many tubes."""
    begin = {lane.label: lane.start_s for lane in sorted(strip.true, key=lambda lane: -lane.start_s)}
    return [*sorted(begin, key=lambda label: (begin[label], label)), *strip.marked]


def _draw_lanes(axes: Axes, strip: Strip) -> None:
    """When each tube is on, below the frames: each frame's middle is above its second."""
    middle = np.arange(len(strip.seconds)) + 0.5

    def place_of(second: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds as places along the strip, from 0 to its number of frames."""
        if len(middle) < 2:
            return np.asarray(0.5 + (second - strip.seconds[0]))
        before = strip.seconds[0] - (strip.seconds[1] - strip.seconds[0]) / 2
        after = strip.seconds[-1] + (strip.seconds[-1] - strip.seconds[-2]) / 2
        return np.interp(second, [before, *strip.seconds, after], [0.0, *middle, len(middle)])

    names = [f"true {shorten(label, MOST_NAME)}" for label in _true_labels(strip)]
    for row, label in enumerate(_true_labels(strip)):
        for lane in strip.true:
            if lane.label == label:
                span = place_of(np.array([lane.start_s, lane.end_s]))
                axes.plot(span, [row, row], color="black", linestyle=(0, (3, 1.5)), linewidth=2.0)
        seconds = strip.marked.get(label, np.zeros(0))
        inside = seconds[(seconds >= strip.seconds[0] - 1e-6) & (seconds <= strip.seconds[-1] + 1e-6)]
        axes.plot(place_of(inside), [row] * len(inside), "k.", markersize=4)
    for lane in strip.found:
        assert lane.score is not None
        width, opacity = line_of(lane.score, 2.0, 3.0)
        span = place_of(np.array([lane.start_s, lane.end_s]))
        axes.plot(span, [len(names)] * 2, color=lane.colour, linewidth=width, alpha=opacity, solid_capstyle="butt")
        names.append(f"{shorten(lane.label, MOST_NAME)} {lane.score:.2f}")
    if not strip.found:
        names.append("nothing found")
    for place in middle:
        axes.axvline(place, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, len(middle)), ylim=(len(names) - 0.4, -0.6))
    axes.set_xticks(middle, [f"{second:.2f} s" for second in strip.seconds.tolist()], fontsize=7)
    axes.set_yticks(range(len(names)), [plain_text(name) for name in names], fontsize=7)
    axes.tick_params(length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
