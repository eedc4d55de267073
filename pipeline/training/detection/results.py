"""What a detection head finds, in frames and over time, and how good that is by the benchmarks' own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.linking import link
from pipeline.heads.roi import KeyDetections
from pipeline.metrics import ava
from pipeline.metrics import tubes as tube_metrics
from pipeline.training.detection.dataset import DetectionData
from pipeline.training.detection.view import out_of_view
from schemas.annotation import BoxTable, Tube, TubeSet, VideoShape
from schemas.heads import Linking

VIDEO_IOUS = (0.2, 0.5, 0.75)
MEAN_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # 0.5:0.95
ROUNDING = 1e-6  # of a frame: seconds that were counted in frames come back to their frame


class Found:
    """The detections of a split's keyframes: of key i of `keys` boxes (M, 4) in shares of the video's frame and scores
    (M, K)."""

    def __init__(self, data: DetectionData, keys: NDArray[np.int64], detections: Sequence[KeyDetections]) -> None:
        self.keys = keys
        self.boxes = [
            out_of_view(one.box.cpu().double().numpy(), data.maps.view[row])
            for one, row in zip(detections, data.keys.row[keys], strict=True)
        ]
        self.scores = [one.score.cpu().double().numpy() for one in detections]


def box_table(data: DetectionData, found: Found, labels: Sequence[str], *, min_score: float) -> BoxTable:
    """A row for each box and action that scores `min_score` or more, by keyframe. `labels` name all of the classes."""
    place = np.array([labels.index(name) for _, name in data.classes], dtype=np.int64)
    videos = np.unique(data.keys.video[found.keys])
    number = {int(video): index for index, video in enumerate(videos)}
    video, second, box, label, score = ([np.zeros((0, *s))] for s in ((), (), (4,), (), ()))
    for key, boxes, scores in zip(found.keys, found.boxes, found.scores, strict=True):
        rows, classes = np.nonzero(scores >= min_score)
        video.append(np.full(len(rows), number[int(data.keys.video[key])]))
        second.append(np.full(len(rows), data.keys.second[key]))
        box.append(boxes[rows])
        label.append(place[classes])
        score.append(scores[rows, classes])
    return BoxTable(
        video=np.concatenate(video).astype(np.int64),
        second=np.concatenate(second),
        box=np.concatenate(box),
        label=np.concatenate(label).astype(np.int64),
        entity=np.full(sum(map(len, score)), -1, dtype=np.int64),
        score=np.concatenate(score),
        videos=tuple(data.names[one] for one in videos),
        labels=tuple(labels),
    )


def key_precision(data: DetectionData, split: str, found: Found, *, iou: float, min_score: float) -> ava.AvaResult:
    """AP on the keyframes of a split by AVA's rule, without its limit of 50 a frame."""
    keys = data.keys_of(split)
    frames = {(data.names[data.keys.video[key]], float(data.keys.second[key])) for key in keys}
    names = {name for name, _ in frames}
    of_split = np.array([name in names for name in data.truth.videos], dtype=bool)
    return ava.frame_map(
        data.truth.select(of_split[data.truth.video]),
        box_table(data, found, data.truth.labels, min_score=min_score),
        empty_frames=sorted(frames),
        max_per_frame=0,
        iou=iou,
    )


# ---------------------------------------------------------------- tubes


def linked(data: DetectionData, found: Found, rules: Linking) -> TubeSet:
    """The tubes of a split's videos, in the true tubes' frames where those say their rate and size.

    Else frame i is what is shown at i / fps on the file's clock, fps being the clips' and the size that of the clips'
    frames; the json says both.
    """
    tubes: list[Tube] = []
    videos = np.unique(data.keys.video[found.keys]).tolist()
    shapes = []
    for index, video in enumerate(videos):
        shape, first_s = _shape_of(data, video)
        shapes.append(shape)
        mine = np.flatnonzero(data.keys.video[found.keys] == video)
        assert shape.fps is not None
        frames = np.floor((data.keys.second[found.keys[mine]] - first_s) * shape.fps + ROUNDING).astype(np.int64)
        frames = frames.clip(0, shape.num_frames - 1)
        frames, first = np.unique(frames, return_index=True)
        start_s, end_s = data.maps.windows[data.maps.of_video(video)][:, [0, 2]].T  # what was looked at
        ends = (
            int(np.floor((start_s.min() - first_s) * shape.fps + ROUNDING)),
            int(np.ceil((end_s.max() - first_s) * shape.fps - ROUNDING)),
        )
        runs = _runs(frames, rules)
        for number, run in enumerate(runs):
            outer = (ends[0] if number == 0 else None, ends[1] if number == len(runs) - 1 else None)
            tubes += _link(found, mine[first[run]], frames[run], shape, video=index, rules=rules, ends=outer)
    return TubeSet(
        tubes=tuple(tubes),
        videos=tuple(data.names[video] for video in videos),
        labels=tuple(name for _, name in data.classes),
        shapes=tuple(shapes),
    )


def _link(
    found: Found,
    places: NDArray[np.int64],
    frames: NDArray[np.int64],
    shape: VideoShape,
    *,
    video: int,
    rules: Linking,
    ends: tuple[int | None, int | None],
) -> list[Tube]:
    size = np.array([shape.width, shape.height, shape.width, shape.height], dtype=np.float64)
    return link(
        frames,
        [found.boxes[place] * size for place in places],
        [found.scores[place] for place in places],
        video=video,
        num_frames=shape.num_frames,
        rules=rules,
        ends=ends,
    )


def _runs(frames: NDArray[np.int64], rules: Linking) -> list[NDArray[np.int64]]:
    """Keyframes in rows of which none is farther from the next than a path may leap."""
    places = np.arange(len(frames))
    if len(frames) < 2:
        return [places]
    gaps = np.diff(frames)
    return np.split(places, np.flatnonzero(gaps > np.median(gaps) * (rules.max_gap + 1)) + 1)


def _shape_of(data: DetectionData, video: int) -> tuple[VideoShape, float]:
    """A video's frames, and when the first is shown."""
    if data.tubes is not None and data.names[video] in data.tubes.videos:
        shape = data.tubes.shapes[data.tubes.videos.index(data.names[video])]
        if shape.num_frames and shape.fps and shape.width and shape.height:
            return shape, float(data.first_s[video])
    rows = data.maps.of_video(video)
    origin = data.maps.origin
    x1, y1, x2, y2 = origin.frame
    height, width = data.maps.frame_px[rows[0]] / [y2 - y1, x2 - x1]  # before the clips' own crop
    num_frames = int(np.ceil(data.maps.windows[rows, 2].max() * origin.fps - ROUNDING))
    return VideoShape(num_frames, origin.fps, round(width), round(height)), 0.0


def _true_tubes(data: DetectionData, split: str) -> TubeSet:
    """The true tubes of a split's videos that have maps."""
    assert data.tubes is not None
    names = {data.names[video] for video in data.videos_of(split)}
    places = [place for place, name in enumerate(data.tubes.videos) if name in names]
    number = {place: index for index, place in enumerate(places)}
    return TubeSet(
        tubes=tuple(
            Tube(number[one.video], one.label, one.start_frame, one.boxes)
            for one in data.tubes.tubes
            if one.video in number
        ),
        videos=tuple(data.tubes.videos[place] for place in places),
        labels=data.tubes.labels,
        shapes=tuple(data.tubes.shapes[place] for place in places),
    )


# ---------------------------------------------------------------- numbers


def split_results(
    data: DetectionData, split: str, found: Found, tubes: TubeSet, *, iou: float, min_score: float
) -> dict[str, Any]:
    """The numbers of one split: frame-mAP on its keyframes, AP of each class, coverage; of tubes, video-mAP too."""
    precision = key_precision(data, split, found, iou=iou, min_score=min_score)
    covered, annotated = data.coverage(split)
    results: dict[str, Any] = {
        "videos": len(data.videos_of(split)),
        "keyframes": len(data.keys_of(split)),
        "coverage": {"of": data.counted, "covered": covered, "annotated": annotated},
        "boxes": int(precision.num_truth.sum()),
        "predictions": precision.counts.used,
        "frame_map": {f"{iou:g}": precision.mean_ap},
        "per_class": [
            {"label": label, "boxes": int(count), "ap": None if np.isnan(ap) else float(ap)}
            for label, count, ap in zip(precision.labels, precision.num_truth, precision.average_precision, strict=True)
        ],
    }
    if data.tubes is not None:
        results["tubes"] = _tube_results(_true_tubes(data, split), tubes, iou=iou)
    return results


def _tube_results(truth: TubeSet, found: TubeSet, *, iou: float) -> dict[str, Any]:
    """By ACT-detector's rules, on all frames."""
    frame = tube_metrics.frame_map(truth, found, iou=iou)
    video = {at: tube_metrics.video_map(truth, found, iou=at) for at in sorted({*VIDEO_IOUS, *MEAN_IOUS})}
    return {
        "tubes": len(truth),
        "predictions": len(found),
        "frames": frame.counts.with_truth,
        "frames_predicted": frame.counts.predicted,
        "frame_map": {f"{iou:g}": frame.mean_ap},
        "video_map": {f"{at:g}": video[at].mean_ap for at in VIDEO_IOUS}
        | {"0.5:0.95": float(np.mean([video[at].mean_ap for at in MEAN_IOUS]))},
        "per_class": [
            {
                "label": label,
                "tubes": int(video[0.5].num_truth[k]),
                "frame_ap": float(frame.average_precision[k]),
                "video_ap": {f"{at:g}": float(video[at].average_precision[k]) for at in VIDEO_IOUS},
            }
            for k, label in enumerate(truth.labels)
        ],
    }


def headline(results: dict[str, Any], *, iou: float) -> dict[str, Any]:
    """What a table shows first."""
    coverage = results["coverage"]
    shown: dict[str, Any] = {f"frame-mAP@{iou:g}": results["frame_map"][f"{iou:g}"]}
    if "tubes" in results:
        shown[f"frame-mAP@{iou:g}, all frames"] = results["tubes"]["frame_map"][f"{iou:g}"]
        shown |= {f"video-mAP@{at}": value for at, value in results["tubes"]["video_map"].items()}
    return shown | {"coverage": f"{coverage['covered']} of {coverage['annotated']} {coverage['of']}"}
