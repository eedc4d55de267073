"""Tubes as json: who does what in which frames, a box a frame. What `reelmill synth` writes, and detectors' tubes.

one video    {"video": "v_x.avi", "num_frames": 240, "fps": 29.97, "width": 320, "height": 240, "tubes": [
                 {"label": "Diving", "start_frame": 0, "end_frame": 240, "boxes_xywh": [[135, 55, 64, 124], …]}]}
many videos  {"videos": [one video, …]}, or a folder of files with one video or many
predictions  the same, each tube with "score" and, where its boxes have their own, "box_scores"

Frames count from 0, end_frame is one past the last; frame i is shown in [i / fps, (i + 1) / fps). Boxes are left, top,
width, height in px, pixel i spanning [i, i + 1). fps, width and height may be missing; other keys are passed over.

| what is wrong | what is done |
|---|---|
| not JSON, not UTF-8, no tubes in it; a pickle | refused; one of a folder's files is left out and counted |
| a video without a name or with a size, a rate or a length that is no positive number | the video is dropped |
| a video that stands there twice | the first is kept |
| a tube without a label, with a box too many or too few, with one that is not four finite numbers | dropped |
| a predicted tube without a finite score | dropped |
| a predicted class that the truth does not know | refused, or dropped with `unknown="drop"` |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow.fs as pafs

from pipeline.annotations.activitynet import load_json
from pipeline.annotations.ava import refuse_pickle
from pipeline.annotations.columns import continue_names
from pipeline.annotations.report import Report
from pipeline.store import resolve
from pipeline.textlist import check_utf8, join, list_names
from schemas.annotation import Tube, TubeSet, VideoShape
from schemas.errors import UsageError

_Found = dict[str, tuple[VideoShape, list[tuple[str, Tube]]]]  # video -> its shape, its tubes with their labels


def read_truth(path: str, *, report: Report | None = None) -> TubeSet:
    """The tubes of a json or of a folder of them, in order of file name and then the file's. Labels are sorted."""
    found = _read(path, report or Report(), scored=False)
    labels = sorted({label for _, tubes in found.values() for label, _ in tubes})
    return _tube_set(found, tuple(found), labels, {})


def read_predictions(
    path: str,
    *,
    truth: TubeSet | None = None,
    unknown: Literal["refuse", "drop"] = "refuse",
    report: Report | None = None,
) -> TubeSet:
    """The detected tubes of a json or a folder, in their order, with scores.

    With `truth`, its labels are the labels and its videos, with their shapes, the first videos, so that indices mean
    the same in both. Without, labels are sorted by name. Raises UsageError as the module says.
    """
    report = report or Report()
    found = _read(path, report, scored=True)
    if truth is None:
        labels = sorted({label for _, tubes in found.values() for label, _ in tubes})
        return _tube_set(found, tuple(found), labels, {})
    for name, (_, tubes) in found.items():
        strangers = [label for label, _ in tubes if label not in truth.labels]
        if strangers and unknown == "refuse":
            raise UsageError(f"{path}: {name} has a tube of {strangers[0]!r}, a class that the truth does not know")
        for label in strangers:
            report.add("unknown_class", name, f"{label!r} is not a class of the truth")
    shapes = dict(zip(truth.videos, truth.shapes, strict=True))
    return _tube_set(found, continue_names(truth.videos, found), truth.labels, shapes)


def _tube_set(found: _Found, videos: Sequence[str], labels: Sequence[str], shapes: Mapping[str, VideoShape]) -> TubeSet:
    video_ids = {name: index for index, name in enumerate(videos)}
    label_ids = {name: index for index, name in enumerate(labels)}
    tubes = [
        Tube(video_ids[name], label_ids[label], tube.start_frame, tube.boxes, tube.score, tube.box_scores)
        for name, (_, of_video) in found.items()
        for label, tube in of_video
        if label in label_ids
    ]
    shape_of = [shapes.get(name) or found[name][0] for name in videos]
    return TubeSet(tuple(tubes), tuple(videos), tuple(labels), tuple(shape_of))


def files_of(path: str) -> list[str]:
    """The files that `path` stands for: itself, or a folder's json files. Raises UsageError where there is none."""
    refuse_pickle(path)
    filesystem, inner = resolve(path)
    if filesystem.get_file_info(inner).type != pafs.FileType.Directory:
        return [path]
    if files := [join(path, name) for name in list_names(path) if name.endswith(".json")]:
        return files
    raise UsageError(f"{path}: there is no json with tubes in this folder")


def _read(path: str, report: Report, *, scored: bool) -> _Found:
    found: _Found = {}
    files = files_of(path)
    for file in files:
        try:
            records = _records(file)
        except UsageError as error:
            if files == [path]:
                raise
            report.add("unreadable_file", file, str(error).removeprefix(f"{file}: "))
            continue
        for record in records:
            _add_video(found, record, file, report, scored=scored)
    return found


def _records(path: str) -> list[Any]:
    root = load_json(path, [])
    if isinstance(root, dict) and isinstance(root.get("videos"), list):
        return list(root["videos"])
    if isinstance(root, dict) and "tubes" in root:
        return [root]
    raise UsageError(f'{path}: not a json of tubes: it has neither "tubes" nor "videos"')


def _add_video(found: _Found, record: Any, file: str, report: Report, *, scored: bool) -> None:
    try:
        name, shape, values = _video(record)
    except ValueError as error:
        report.add("malformed_row", file, str(error))
        return
    if name in found:
        report.add("duplicate_row", name, f"{file} has this video once more; the first is kept")
        return
    tubes = []
    for value in values:
        try:
            tubes.append(_tube(value))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            detail = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            report.add("bad_tube", name, detail)
            continue
        if scored and tubes[-1][1].score is None:
            report.add("bad_score", name, f"a tube of {tubes.pop()[0]!r} has no score")
    if shape.num_frames == 0:
        shape = VideoShape(max((tube.end_frame for _, tube in tubes), default=0), shape.fps, shape.width, shape.height)
    found[name] = (shape, tubes)


def _video(record: Any) -> tuple[str, VideoShape, list[Any]]:
    """(name, shape with 0 frames where their number is missing, tubes). Raises ValueError with the reason."""
    name = record.get("video") if isinstance(record, dict) else None
    if not isinstance(name, str) or not name or not isinstance(record.get("tubes"), list):
        raise ValueError('want {"video": name, "num_frames": …, "tubes": […]}')
    check_utf8(name)
    numbers: dict[str, Any] = {}
    for key in ("num_frames", "fps", "width", "height"):
        value = record.get(key)
        if value is not None and not (_is_number(value) and value > 0 and (key == "fps" or value == int(value))):
            raise ValueError(f"{name}: {key} {value!r} is not a positive number")
        numbers[key] = value
    width, height = (None if numbers[key] is None else int(numbers[key]) for key in ("width", "height"))
    fps = None if numbers["fps"] is None else float(numbers["fps"])
    return name, VideoShape(int(numbers["num_frames"] or 0), fps, width, height), record["tubes"]


def _tube(value: Any) -> tuple[str, Tube]:
    """(label, tube of video 0 and label 0). Raises ValueError, TypeError, KeyError or OverflowError."""
    label = value["label"]
    if not isinstance(label, str) or not label:
        raise ValueError(f"label {label!r} is no name")
    check_utf8(label)
    try:
        xywh = np.array(value["boxes_xywh"], np.float64)
    except ValueError:  # numpy's own is about shapes
        raise ValueError(f"{label}: a box is not four numbers") from None
    start, end = value["start_frame"], value["end_frame"]
    if type(start) is not int or type(end) is not int or xywh.shape != (end - start, 4):
        raise ValueError(f"{label}: frames [{start}, {end}) and boxes of shape {xywh.shape} do not fit")
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    score, box_scores = value.get("score"), value.get("box_scores")
    if score is not None and not _is_number(score):
        raise ValueError(f"{label}: score {score!r} is not a finite number")
    return label, Tube(
        video=0,
        label=0,
        start_frame=start,
        boxes=boxes,
        score=None if score is None else float(score),
        box_scores=None if box_scores is None else np.array(box_scores, np.float64),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def write_tubes(tubes: TubeSet) -> bytes:
    """All videos and tubes as one json, a video a line, in their order. The bytes depend on nothing but the tubes."""
    of_video: list[list[dict[str, Any]]] = [[] for _ in tubes.videos]
    for tube in tubes.tubes:
        of_video[tube.video].append(_tube_json(tube, tubes.labels[tube.label]))
    lines = []
    for name, shape, values in zip(tubes.videos, tubes.shapes, of_video, strict=True):
        size = {"num_frames": shape.num_frames or None, "fps": shape.fps, "width": shape.width, "height": shape.height}
        known = {key: value for key, value in size.items() if value is not None}
        lines.append(json.dumps({"video": name, **known, "tubes": values}, ensure_ascii=False))
    return ('{"videos": [\n' + ",\n".join(lines) + "\n]}\n").encode()


def _tube_json(tube: Tube, label: str) -> dict[str, Any]:
    xywh = np.concatenate([tube.boxes[:, :2], tube.boxes[:, 2:] - tube.boxes[:, :2]], axis=1)
    value: dict[str, Any] = {"label": label, "start_frame": int(tube.start_frame), "end_frame": int(tube.end_frame)}
    if tube.score is not None:
        value["score"] = float(tube.score)
    if tube.box_scores is not None:
        value["box_scores"] = tube.box_scores.tolist()
    return {**value, "boxes_xywh": xywh.tolist()}
