"""Detections in seconds, and their numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.heads.temporal import StepDetections
from pipeline.training.tasks import settings_of
from pipeline.training.temporal.dataset import TemporalData
from pipeline.training.temporal.results import (
    headline,
    in_seconds,
    middle,
    of_video,
    precision_of,
    split_results,
    truth_of,
    video_scores,
)
from schemas.heads import SoftNMS, TemporalSettings


def detections(*rows: tuple[float, float, int, float]) -> StepDetections:
    """Of (start, end, label, score) in steps."""
    columns = np.array(rows, dtype=np.float32).reshape(-1, 4)
    return StepDetections(
        span=torch.from_numpy(columns[:, :2].copy()),
        label=torch.from_numpy(columns[:, 2].astype(np.int64)),
        score=torch.from_numpy(columns[:, 3].copy()),
    )


@pytest.fixture
def settings(head_of: Any) -> TemporalSettings:
    found = settings_of({**head_of().settings, "features": ["c3d"], "tiou": [0.3, 0.5]})
    assert isinstance(found, TemporalSettings)
    return found


@pytest.fixture
def data(dataset: Any, video: Any, head_of: Any, load: Any) -> TemporalData:
    """Three videos of ten windows of 3.2 s, 1.6 s apart: step t is at 1.6 + 1.6 t seconds, [0, 17.6] is covered."""
    spans = {
        "train": ((1.6, 4.8, 0), (8.0, 9.6, 1)),
        "val": ((1.6, 4.8, 0), (8.0, 9.6, 0)),
        "test": ((3.2, 6.4, 1), (0.0, 1.6, 0)),
    }
    videos = [
        video(f"video-{split}", (0,), np.zeros((10, 4), np.float32), split, step_s=1.6, segments=segments)
        for split, segments in spans.items()
    ]
    dataset.write(videos)
    return load(head_of())


HARD = SoftNMS(method="hard")


def test_steps_become_seconds_inside_what_features_cover(data: TemporalData) -> None:
    found = {
        2: detections((-3.0, 0.0, 1, 0.5), (8.5, 20.0, 0, 0.25), (11.0, 12.0, 0, 0.2)),
        0: detections((0.0, 2.0, 0, 0.75)),
    }
    table = in_seconds(data, found, nms=HARD)
    assert table.videos == ("video-train", "video-test")
    assert table.labels == ("jump", "run")
    assert table.video.tolist() == [0, 1, 1]  # the last one has nothing in common with the features
    assert table.label.tolist() == [0, 1, 0]
    assert table.start_s.tolist() == pytest.approx([1.6, 0.0, 15.2])
    assert table.end_s.tolist() == pytest.approx([4.8, 1.6, 17.6])
    assert table.score is not None
    assert table.score.tolist() == [0.75, 0.5, 0.25]


def test_suppression_is_that_of_the_settings(data: TemporalData) -> None:
    rows = detections((0.0, 2.0, 0, 0.75), (0.0, 2.2, 0, 0.5), (0.0, 2.0, 1, 0.25))
    assert len(in_seconds(data, {0: rows}, nms=HARD)) == 2
    assert len(in_seconds(data, {0: rows}, nms=SoftNMS(method="hard", agnostic=True))) == 1
    assert len(in_seconds(data, {0: rows}, nms=SoftNMS())) == 3
    assert len(in_seconds(data, {0: rows}, nms=SoftNMS(keep=2))) == 2


def test_no_detection_at_all(data: TemporalData, settings: TemporalSettings) -> None:
    table = in_seconds(data, {1: detections()}, nms=HARD)
    assert len(table) == 0
    assert split_results(data, "val", table, settings)["average_map"] == 0.0
    assert video_scores(data, "val", table, settings) == {"video-val": 0.0}


def test_numbers_of_a_split_by_hand(data: TemporalData, settings: TemporalSettings) -> None:
    # of two jumps the first is found well, the second at tIoU 0.4 = 1.6 / 4, between them a mistake
    rows = detections((0.0, 2.0, 0, 0.9), (6.0, 7.0, 0, 0.8), (2.5, 5.0, 0, 0.7), (0.0, 1.0, 1, 0.95))
    table = in_seconds(data, {1: rows}, nms=HARD)
    found = split_results(data, "val", table, settings)
    assert found["map"] == {"0.3": pytest.approx((1 + 2 / 3) / 2), "0.5": pytest.approx(0.5)}
    assert found["average_map"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert found["average_map"] == precision_of(data, "val", table, settings).average_map
    assert found["per_class"] == [{"label": "jump", "segments": 2, "ap": found["map"]}]  # no run is in this split
    assert (found["videos"], found["annotated_videos"]) == (1, 1)
    assert (found["segments"], found["predictions"]) == (2, 4)
    assert headline(found, settings.tiou) == {
        "mAP@0.5": found["map"]["0.5"],
        "average mAP": found["average_map"],
        "coverage": "1 of 1 videos",
    }
    assert video_scores(data, "val", table, settings) == {"video-val": found["average_map"]}


def test_the_two_protocols_differ_at_the_threshold(data: TemporalData, settings: TemporalSettings) -> None:
    """ActivityNet takes a tIoU that equals the threshold, THUMOS one that is above it."""
    table = in_seconds(data, {1: detections((0.0, 1.0, 0, 0.9))}, nms=HARD)
    start_s = np.floor(data.truth.start_s)
    data = replace(data, truth=replace(data.truth, start_s=start_s, end_s=start_s + 2))
    half = replace(table, start_s=np.array([1.0]), end_s=np.array([2.0]))  # of [1, 3], without an error of rounding
    both: dict[str, float] = {}
    for protocol in ("activitynet", "thumos"):
        chosen = settings.model_copy(update={"tiou": (0.5,), "protocol": protocol})
        both[protocol] = precision_of(data, "val", half, chosen).average_map
    assert both == {"activitynet": 0.5, "thumos": 0.0}


def test_the_truth_of_a_split_is_that_of_its_videos(data: TemporalData) -> None:
    assert truth_of(data, "val").start_s.tolist() == [1.6, 8.0]
    assert truth_of(data, "test").start_s.tolist() == [3.2, 0.0]


def test_one_video_of_a_table(data: TemporalData) -> None:
    one = of_video(data.truth, "video-test")
    assert one.videos == ("video-test",)
    assert one.start_s.tolist() == [3.2, 0.0]
    assert one.video.tolist() == [0, 0]
    assert len(of_video(data.truth, "elsewhere")) == 0


def test_the_threshold_in_the_middle() -> None:
    assert middle((0.3, 0.4, 0.5, 0.6)) == 0.5
    assert middle((0.1, 0.7, 0.9)) == 0.7
