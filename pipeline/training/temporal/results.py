"""What a localization head finds, in seconds, and how good that is by the benchmarks' own rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.soft_nms import soft_nms
from pipeline.heads.temporal import StepDetections
from pipeline.metrics.temporal import AveragePrecision, detection_ap
from pipeline.metrics.thumos import thumos_ap
from pipeline.training.temporal.dataset import TemporalData
from schemas.annotation import SegmentTable
from schemas.heads import SoftNMS, TemporalSettings


def in_seconds(data: TemporalData, found: Mapping[int, StepDetections], *, nms: SoftNMS) -> SegmentTable:
    """Detections of videos (index into the data) after suppression, within the seconds that features cover."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("video", "start_s", "end_s", "label", "score")}
    videos = sorted(found)
    for place, video in enumerate(videos):
        one = found[video]
        kept, score = soft_nms(one.span.numpy(), one.score.numpy(), one.label.numpy(), **nms.model_dump())
        span_s = data.grid.seconds(one.span.numpy()[kept].astype(np.float64), first_s=data.first_s[video])
        span_s = span_s.clip(*data.covered_s[video])
        longer = span_s[:, 1] > span_s[:, 0]  # what is left of it
        columns["video"].append(np.full(int(longer.sum()), place, dtype=np.int64))
        columns["start_s"].append(span_s[longer, 0])
        columns["end_s"].append(span_s[longer, 1])
        columns["label"].append(one.label.numpy()[kept][longer].astype(np.int64))
        columns["score"].append(score[longer])
    return SegmentTable(
        video=_column(columns["video"], np.int64),
        start_s=_column(columns["start_s"], np.float64),
        end_s=_column(columns["end_s"], np.float64),
        label=_column(columns["label"], np.int64),
        score=_column(columns["score"], np.float64),
        videos=tuple(data.names[video] for video in videos),
        labels=data.classes,
    )


def _column(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def truth_of(data: TemporalData, split: str) -> SegmentTable:
    """The truth of the videos of one split that have features."""
    names = {data.names[video] for video in data.videos_of(split)}
    kept = np.array([name in names for name in data.truth.videos], dtype=bool)
    return data.truth.select(kept[data.truth.video])


def precision_of(
    data: TemporalData, split: str, predictions: SegmentTable, settings: TemporalSettings
) -> AveragePrecision:
    """AP by the protocol and the thresholds of the settings."""
    return _precision(truth_of(data, split), predictions, settings)


def _precision(truth: SegmentTable, predictions: SegmentTable, settings: TemporalSettings) -> AveragePrecision:
    rule = detection_ap if settings.protocol == "activitynet" else thumos_ap
    return rule(truth, predictions, tious=np.array(settings.tiou))


def of_video(table: SegmentTable, name: str) -> SegmentTable:
    """The segments of one video, as a table of that video alone."""
    rows = np.flatnonzero(table.video == table.videos.index(name)) if name in table.videos else np.zeros(0, np.int64)
    one = table.select(rows)
    return replace(one, video=np.zeros(len(rows), np.int64), videos=(name,), subset=None, duration_s=None)


def video_scores(
    data: TemporalData, split: str, predictions: SegmentTable, settings: TemporalSettings
) -> dict[str, float]:
    """The average mAP of each video of a split that has a segment, by name, as if it were the only one."""
    truth = truth_of(data, split)
    names = [truth.videos[video] for video in np.unique(truth.certain().video)]
    return {
        name: _precision(of_video(truth, name), of_video(predictions, name), settings).average_map for name in names
    }


def split_results(
    data: TemporalData, split: str, predictions: SegmentTable, settings: TemporalSettings
) -> dict[str, Any]:
    """The numbers of one split: mAP at each tIoU, their mean, AP of each class, coverage."""
    found = precision_of(data, split, predictions, settings)
    by_tiou = dict(zip(settings.tiou, found.mean_ap.tolist(), strict=True))
    return {
        "videos": len(data.videos_of(split)),
        "annotated_videos": data.num_annotated(split),
        "segments": int(found.num_truths.sum()),
        "predictions": len(predictions),
        "map": {f"{tiou:g}": value for tiou, value in by_tiou.items()},
        "average_map": found.average_map,
        "per_class": [
            {
                "label": label,
                "segments": int(found.num_truths[k]),
                "ap": {f"{tiou:g}": float(found.ap[row, k]) for row, tiou in enumerate(settings.tiou)},
            }
            for k, label in enumerate(found.labels)
        ],
    }


def headline(results: Mapping[str, Any], tious: Sequence[float]) -> dict[str, Any]:
    """What a table shows first: mAP at 0.5, or at the nearest tIoU there is; the average; coverage."""
    tiou = middle(tious)
    return {
        f"mAP@{tiou:g}": results["map"][f"{tiou:g}"],
        "average mAP": results["average_map"],
        "coverage": f"{results['videos']} of {results['annotated_videos']} videos",
    }


def middle(tious: Sequence[float]) -> float:
    """The threshold that is nearest to 0.5."""
    return min(tious, key=lambda tiou: abs(tiou - 0.5))
