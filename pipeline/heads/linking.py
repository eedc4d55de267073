"""Detections of keyframes linked over time into tubes: one actor doing one thing, a box a frame.

Each class by itself, keyframe by keyframe (online, as in Singh et al., "Online Real-time Multiple Spatiotemporal Action
Localisation and Prediction"): a path goes on with the detection that has the best sum of class score and overlap with
the path's last box. Where a path's score is low for long it is cut, by the cheapest labelling of its keyframes as
inside or outside of the action. Between keyframes boxes are interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.boxes import iou_matrix
from schemas.annotation import Tube
from schemas.heads import Linking

TRIM_SHARE = 0.5  # a keyframe speaks for the action when its score is above this share of the path's best
TRIM_COST = 0.5  # what entering or leaving the action costs, in shares of the path's best score


@dataclass
class _Path:
    keys: list[int]  # which keyframes, ascending
    boxes: list[np.ndarray]
    scores: list[float]


def link(
    frames: np.ndarray,
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    *,
    video: int,
    num_frames: int,
    rules: Linking,
    ends: tuple[int | None, int | None] = (None, None),
) -> list[Tube]:
    """The tubes of one video, best score first, from the detections of its P keyframes.

    frames: (P,) int64, ascending, each below `num_frames`, of keyframes with detections or without. boxes: P of (M, 4)
    in px. scores: P of (M, K). A tube's score is the mean over its detections. Of equal scores the lower class comes
    first, then the earlier start. A keyframe stands for the frames that are nearest to it, so that a tube begins and
    ends half-way to the keyframes before and after it. The first and last keyframe reach out to `ends`, the frames
    [first, last) that were looked at, or where these are None as far out as inwards.
    Raises ValueError where keyframes are not ascending frames of the video.
    """
    if len(frames) and not (frames[0] >= 0 and frames[-1] < num_frames and (np.diff(frames) > 0).all()):
        raise ValueError(f"keyframes must be ascending frames of a video of {num_frames}, got {frames.tolist()}")
    bounds = _territories(frames, num_frames, ends)
    tubes = []
    for label in range(scores[0].shape[1] if scores else 0):
        for path in _grow([(box, score[:, label]) for box, score in zip(boxes, scores, strict=True)], rules):
            for part in _trim(path, frames) if rules.trim else [path]:
                if len(part.keys) >= rules.min_keyframes:
                    tubes.append(_fill(part, frames, bounds, video=video, label=label))
    return sorted(tubes, key=lambda tube: (-(tube.score or 0.0), tube.label, tube.start_frame))


def _grow(detections: Sequence[tuple[np.ndarray, np.ndarray]], rules: Linking) -> list[_Path]:
    """The paths of one class; each detection is in one path. At a keyframe the best pairs of path and detection are
    joined first; of equal ones the older path's, then the lower row's."""
    paths: list[_Path] = []
    for key, (boxes, scores) in enumerate(detections):
        alive = [path for path in paths if key - path.keys[-1] - 1 <= rules.max_gap]
        free = set(np.nonzero(scores >= rules.min_score)[0].tolist())
        waiting = set(range(len(alive)))
        last = np.asarray([path.boxes[-1] for path in alive]).reshape(-1, 4)
        overlaps = iou_matrix(last, boxes)  # (paths, M)
        value = overlaps + scores
        for flat in np.argsort(-value, axis=None, kind="stable"):
            index, row = divmod(int(flat), len(boxes))
            if index in waiting and row in free and overlaps[index, row] >= rules.min_iou:
                _extend(alive[index], key, boxes[row], scores[row])
                waiting.discard(index)
                free.discard(row)
        for row in sorted(free):
            paths.append(_Path([], [], []))
            _extend(paths[-1], key, boxes[row], scores[row])
    return paths


def _extend(path: _Path, key: int, box: np.ndarray, score: float) -> None:
    path.keys.append(key)
    path.boxes.append(np.asarray(box, dtype=np.float64))
    path.scores.append(float(score))


def _trim(path: _Path, frames: np.ndarray) -> list[_Path]:
    """The parts of a path that lie inside of the action; the whole path where none does. Keyframes that it lacks
    count with the score between their neighbours."""
    keys = np.arange(path.keys[0], path.keys[-1] + 1)
    scores = np.interp(frames[keys], frames[path.keys], path.scores)
    peak = scores.max()
    inside = label_inside(scores / peak - TRIM_SHARE, cost=TRIM_COST) if peak > 0 else np.ones(len(keys), dtype=bool)
    if not inside.any():
        return [path]
    run = np.cumsum(~inside)  # equal within a run of inside
    parts: dict[int, _Path] = {}
    for key, box, score in zip(path.keys, path.boxes, path.scores, strict=True):
        if inside[key - keys[0]]:
            _extend(parts.setdefault(int(run[key - keys[0]]), _Path([], [], [])), key, box, score)
    return list(parts.values())


def label_inside(gains: np.ndarray, *, cost: float) -> np.ndarray:
    """The labelling (P,) bool with the largest sum of `gains` (P,) inside minus `cost` for each change (Viterbi).

    Of equal ones that which stays inside.
    """
    best = np.zeros((len(gains), 2))  # outside, inside
    came = np.zeros((len(gains), 2), dtype=np.int64)
    for step, gain in enumerate(gains):
        for state in (0, 1):
            if step:
                stay, change = best[step - 1, state], best[step - 1, 1 - state] - cost
                came[step, state] = state if stay > change or (stay == change and state == 1) else 1 - state
                best[step, state] = max(stay, change)
        best[step, 1] += gain
    state = int(best[-1, 1] >= best[-1, 0])
    inside = np.zeros(len(gains), dtype=bool)
    for step in range(len(gains) - 1, -1, -1):
        inside[step] = state == 1
        state = int(came[step, state])
    return inside


def _territories(frames: np.ndarray, num_frames: int, ends: tuple[int | None, int | None]) -> np.ndarray:
    """Where the frames begin (P + 1,) int64 that each keyframe stands for; the last number is where they end."""
    if not len(frames):
        return np.zeros(1, dtype=np.int64)
    between = (frames[:-1] + frames[1:] + 1) // 2  # a frame as near to both is the later one's
    inwards = (between[0] - frames[0], frames[-1] - between[-1]) if len(between) else (0, 0)
    first = frames[0] - inwards[0] if ends[0] is None else min(ends[0], frames[0])
    last = frames[-1] + inwards[1] + 1 if ends[1] is None else max(ends[1], frames[-1] + 1)
    return np.concatenate([[max(0, first)], between, [min(num_frames, last)]])


def _fill(path: _Path, frames: np.ndarray, bounds: np.ndarray, *, video: int, label: int) -> Tube:
    """A box and a score for each frame, linear between keyframes, held before the first and after the last."""
    start, end = int(bounds[path.keys[0]]), int(bounds[path.keys[-1] + 1])
    at, known = np.arange(start, end), frames[path.keys]
    columns = [np.interp(at, known, column) for column in (*np.stack(path.boxes, axis=1), path.scores)]
    filled = np.stack(columns, axis=1)  # (F, 5)
    return Tube(
        video=video,
        label=label,
        start_frame=start,
        boxes=np.ascontiguousarray(filled[:, :4]),
        score=float(np.mean(path.scores)),
        box_scores=np.ascontiguousarray(filled[:, 4]),
    )
