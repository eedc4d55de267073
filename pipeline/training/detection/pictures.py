"""What a head finds in keyframes, as a picture: some of the best, of the middling and of the worst ones, with the true
boxes in white and the found ones in the colour of their class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipeline.boxes import iou_matrix
from pipeline.metrics.ava import average_precision
from pipeline.training.detection.dataset import DetectionData
from pipeline.training.detection.panel import TRUTH, FrameAt, Frames, Mark, colour_of, draw_panel, line_of, shorten
from pipeline.training.detection.results import Found
from pipeline.training.detection.view import out_of_view
from pipeline.training.figure import plain_style, plain_text, png_of

ROWS, COLUMNS = ("best", "middle", "worst"), 4
MOST_RATED = 600  # keyframes, spread evenly over the split's
# boxes are shown whose best class scores this much, and this share of the keyframe's best; that one in any case
SHOWN_SCORE, SHOWN_SHARE = 0.1, 0.5
ALSO_SHARE = 0.5  # classes of a box are named from this share of its best one's score on
MOST_BOXES, MOST_CLASSES = 6, 3

# inches
CELL_WIDTH, MOST_HEIGHT, CAPTION, GAP, LEFT, TITLE = 3.1, 3.4, 0.24, 0.1, 0.35, 0.4
MOST_NAME = 40  # characters
LEGEND, LEGEND_LINE, LEGEND_COLUMNS, MOST_IN_LEGEND = 0.28, 0.17, 7, 20


@dataclass(frozen=True)
class Key:
    """A keyframe: G actors, M detections, K classes; boxes in shares of the video's frame."""

    video: int  # of the maps
    second: float
    true_box: NDArray[np.float64]  # (G, 4)
    true_class: NDArray[np.bool_]  # (G, K)
    box: NDArray[np.float64]  # (M, 4) of those shown, best first
    score: NDArray[np.float64]  # (M, K)
    precision: float  # mean over its classes of AP; nan where there is no true box
    overlap: float  # mean IoU of actors and boxes; without true boxes the best score, negative

    @property
    def quality(self) -> tuple[float, float]:
        """By which keyframes are ordered, higher is better; a false find costs as much as it is sure."""
        return (1 + self.overlap if np.isnan(self.precision) else self.precision), self.overlap


def draw_boxes(data: DetectionData, found: Found, frame_at: FrameAt, *, iou: float, title: str) -> bytes | None:
    """A PNG of keyframes, from the best to the worst; None where there is none to be shown."""
    keys = _rated(data, found, iou=iou)
    if not keys:
        return None
    rows = pick(keys)
    frames = Frames(data, frame_at)
    pictures = {id(key): frames.picture(key.video, key.second) for row in rows for key in row}
    height = min(MOST_HEIGHT, CELL_WIDTH * max(one.shape[0] / one.shape[1] for one in pictures.values()))
    columns = max(len(row) for row in rows)
    wide = LEFT + max(columns, 2) * (CELL_WIDTH + GAP)
    shown = sorted({k for row in rows for key in row for k in _classes_shown(key)})[:MOST_IN_LEGEND]
    legend = LEGEND + LEGEND_LINE * -(-(1 + len(shown)) // LEGEND_COLUMNS)
    high = TITLE + len(rows) * (height + CAPTION + GAP) + legend
    with plain_style():
        figure = Figure(figsize=(wide, high))
        figure.text(0.5, 1 - TITLE / 2 / high, plain_text(title), ha="center", va="center", fontsize=11)
        for r, row in enumerate(rows):
            bottom = high - TITLE - (r + 1) * (height + CAPTION + GAP) + GAP
            if len(rows) == len(ROWS):
                at = (LEFT / 2 / wide, (bottom + height / 2) / high)
                figure.text(*at, ROWS[r], rotation=90, ha="center", va="center", fontsize=11)
            for c, key in enumerate(row):
                left = LEFT + c * (CELL_WIDTH + GAP)
                axes = figure.add_axes((left / wide, bottom / high, CELL_WIDTH / wide, height / high))
                draw_panel(axes, pictures[id(key)], _marks(data, frames, key))
                axes.set_title(plain_text(_caption(data, key, iou)), fontsize=7.5, pad=3)
        _add_legend(figure, data, shown)
        return png_of(figure)


def _caption(data: DetectionData, key: Key, iou: float) -> str:
    rated = "no true box" if np.isnan(key.precision) else f"AP@{iou:g} {key.precision:.2f}"
    return f"{shorten(data.names[key.video], MOST_NAME)}   {key.second:.2f} s   {rated}"


def _add_legend(figure: Figure, data: DetectionData, shown: Sequence[int]) -> None:
    white = Patch(facecolor=TRUTH, edgecolor="black")
    lines = [white, *(Line2D([], [], color=colour_of(k), lw=2) for k in shown)]
    names = ["true boxes", *(plain_text(shorten(data.classes[k][1], 24)) for k in shown)]
    figure.legend(
        lines,
        names,
        loc="lower center",
        ncols=min(len(lines), LEGEND_COLUMNS),
        fontsize=7,
        frameon=False,
        title="found boxes in the colour of their best class, wider and stronger the surer",
        title_fontsize=7,
        borderpad=0,
    )


# ---------------------------------------------------------------- which keyframes


def pick(keys: Sequence[Key]) -> list[list[Key]]:
    """Rows of keyframes from best to worst; of many the best, the middle and the last, each from several videos."""
    order = sorted(keys, key=lambda key: (-key.quality[0], -key.quality[1], key.video, key.second))
    if len(order) <= len(ROWS) * COLUMNS:
        return [order[at : at + COLUMNS] for at in range(0, len(order), COLUMNS)]
    third, rest = divmod(len(order), 3)
    best, middle, worst = order[:third], order[third : third + third + rest], order[third + third + rest :]
    centre = sorted(range(len(middle)), key=lambda place: (abs(place - (len(middle) - 1) / 2), place))
    rows = [_several(best), _several([middle[place] for place in centre]), _several(worst[::-1])]
    rank = {id(key): place for place, key in enumerate(order)}
    return [sorted(row, key=lambda key: rank[id(key)]) for row in rows]


def _several(order: Sequence[Key]) -> list[Key]:
    """The first COLUMNS keys, each time of a video that was taken least."""
    left, uses = list(order), Counter[int]()
    taken: list[Key] = []
    while left and len(taken) < COLUMNS:
        least = min(uses[key.video] for key in left)
        place = next(place for place, key in enumerate(left) if uses[key.video] == least)
        taken.append(left.pop(place))
        uses[taken[-1].video] += 1
    return taken


def _rated(data: DetectionData, found: Found, *, iou: float) -> list[Key]:
    """Keyframes in which somebody is or is said to be."""
    count = len(found.keys)
    rated = min(count, MOST_RATED)
    places = [place * count // rated for place in range(rated)]
    keys = [_key(data, found, place, iou=iou) for place in places]
    return [key for key in keys if len(key.true_box) or key.score.max(initial=0) >= SHOWN_SCORE]


def _key(data: DetectionData, found: Found, place: int, *, iou: float) -> Key:
    index = found.keys[place]
    target, view = data.targets[index], data.maps.view[data.keys.row[index]]
    true_box = out_of_view(target.box.double().numpy(), view)
    true_class = target.actions.numpy() > 0
    box, score = found.boxes[place], found.scores[place]
    shown = shown_boxes(score)
    if len(true_box):
        overlap = float(iou_matrix(true_box, box[shown]).max(axis=1, initial=0).mean())
    else:
        overlap = -float(score.max(initial=0))
    return Key(
        video=int(data.keys.video[index]),
        second=float(data.keys.second[index]),
        true_box=true_box,
        true_class=true_class,
        box=box[shown],
        score=score[shown],
        precision=key_ap(true_box, true_class, box, score, iou=iou),
        overlap=overlap,
    )


def shown_boxes(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The boxes of a keyframe that are drawn, best first, by their scores (M, K)."""
    best = score.max(axis=1, initial=0)
    order = np.argsort(-best, kind="stable")
    least = max(SHOWN_SCORE, SHOWN_SHARE * float(best.max(initial=0)))
    return order[: max(1, min(MOST_BOXES, int((best >= least).sum())))]


def key_ap(
    true_box: NDArray[np.float64],
    true_class: NDArray[np.bool_],
    box: NDArray[np.float64],
    score: NDArray[np.float64],
    *,
    iou: float,
) -> float:
    """AP of one keyframe by AVA's rule, mean over the classes that it has; nan where it has none."""
    found = []
    for k in np.flatnonzero(true_class.any(axis=0)):
        overlaps = iou_matrix(box, true_box[true_class[:, k]])  # (M, G of the class)
        is_free = np.ones(overlaps.shape[1], dtype=bool)
        is_hit = np.zeros(len(box), dtype=bool)
        for rank, row in enumerate(np.argsort(-score[:, k], kind="stable")):
            nearest = overlaps[row].argmax()
            is_hit[rank] = overlaps[row, nearest] >= iou and is_free[nearest]
            is_free[nearest] &= not is_hit[rank]
        found.append(average_precision(is_hit, len(is_free)))
    return float(np.mean(found)) if found else float("nan")


# ---------------------------------------------------------------- their boxes


def _classes_shown(key: Key) -> set[int]:
    return set(key.score.argmax(axis=1).tolist())


def _marks(data: DetectionData, frames: Frames, key: Key) -> list[Mark]:
    """The true boxes, and above them the found ones, the best on top."""
    names = [name for _, name in data.classes]
    marks = []
    for box, classes in zip(frames.place(key.true_box), key.true_class, strict=True):
        lines = [shorten(names[k], 26) for k in np.flatnonzero(classes)]
        more = [f"and {len(lines) - MOST_CLASSES} more"] if len(lines) > MOST_CLASSES else []
        text = "\n".join([*lines[:MOST_CLASSES], *more])
        marks.append(Mark(box, text, TRUTH, width=5.0, below=True))
    for box, scores in reversed(list(zip(frames.place(key.box), key.score, strict=True))):
        order = np.argsort(-scores, kind="stable")[:MOST_CLASSES]
        best = float(scores[order[0]])
        named = [k for k in order if scores[k] >= ALSO_SHARE * best]
        text = "\n".join(f"{shorten(names[k], 26)} {scores[k]:.2f}" for k in named)
        width, opacity = line_of(best, 0.8, 1.4)
        marks.append(Mark(box, text, colour_of(int(order[0])), width=width, opacity=opacity))
    return marks
