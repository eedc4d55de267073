"""The picture of keyframes: which are shown, which boxes, and that its bytes are fixed."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from pipeline.heads.roi import KeyDetections
from pipeline.metrics.ava import frame_map
from pipeline.training.detection.dataset import DetectionData, load_detection
from pipeline.training.detection.pictures import Key, draw_boxes, key_ap, pick, shown_boxes
from pipeline.training.detection.results import Found
from schemas.annotation import BoxTable
from schemas.heads import RoIHead


def key(video: int, second: float, precision: float, overlap: float = 0.5) -> Key:
    none = np.zeros((0, 4))
    return Key(video, second, none, np.zeros((0, 2), bool), none, np.zeros((0, 2)), precision, overlap)


def table(box: np.ndarray, label: np.ndarray, score: np.ndarray | None) -> BoxTable:
    return BoxTable(
        video=np.zeros(len(box), np.int64),
        second=np.ones(len(box)),
        box=box,
        label=label.astype(np.int64),
        entity=np.full(len(box), -1, np.int64),
        score=score,
        videos=("v",),
        labels=("a", "b", "c"),
    )


def test_a_keyframes_ap_is_that_of_avas_code() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        num_true, num_found = int(random.integers(1, 5)), int(random.integers(0, 7))
        corners = random.uniform(0, 0.5, size=(num_true + num_found, 2))
        boxes = np.concatenate([corners, corners + random.uniform(0.2, 0.5, size=corners.shape)], axis=1)
        true_class = random.random((num_true, 3)) < 0.4
        score = random.random((num_found, 3))
        actor, label = np.nonzero(true_class)
        rows, classes = np.nonzero(score >= 0)
        truth = table(boxes[:num_true][actor], label, None)
        found = table(boxes[num_true:][rows], classes, score[rows, classes])
        expected = frame_map(truth, found, max_per_frame=0, iou=0.3).mean_ap
        mine = key_ap(boxes[:num_true], true_class, boxes[num_true:], score, iou=0.3)
        assert mine == pytest.approx(expected, nan_ok=True)
        seen.add(round(mine, 1))
    assert len(seen) > 5


def test_few_keyframes_are_all_shown_from_best_to_worst() -> None:
    keys = [key(0, float(n), precision=(n * 5 % 11) / 10) for n in range(11)]
    rows = pick(keys)
    assert [len(row) for row in rows] == [4, 4, 3]
    shown = [one.precision for row in rows for one in row]
    assert shown == sorted(shown, reverse=True)


def test_of_many_keyframes_the_best_the_middle_and_the_worst_of_several_videos() -> None:
    keys = [key(n % 6, float(n), precision=1 - n / 59) for n in range(60)]
    best, middle, worst = pick(keys)
    assert [one.second for one in best] == [0, 1, 2, 3]
    assert sorted(abs(one.second - 29.5) for one in middle) == [0.5, 0.5, 1.5, 1.5]
    assert [one.second for one in worst] == [56, 57, 58, 59]
    keys = [key(0 if n < 10 else n, float(n), precision=1 - n / 59) for n in range(60)]
    assert [one.second for one in pick(keys)[0]] == [0, 10, 11, 12]  # video 0 has the ten best


def test_equal_precision_is_told_apart_by_overlap_and_false_finds_cost_their_score() -> None:
    keys = [key(0, 0, 1, 0.6), key(0, 1, 1, 0.9), key(0, 2, 0, 0.3), key(0, 3, np.nan, -0.9), key(0, 4, np.nan, -0.2)]
    assert [one.second for row in pick(keys) for one in row] == [1, 0, 4, 3, 2]


def test_weak_boxes_are_left_out_beside_strong_ones() -> None:
    assert shown_boxes(np.array([[0.1, 0.2], [0.9, 0.1], [0.3, 0.5], [0.4, 0.4]])).tolist() == [1, 2]
    assert shown_boxes(np.array([[0.01], [0.02]])).tolist() == [1]
    assert shown_boxes(np.zeros((0, 2))).tolist() == []
    assert len(shown_boxes(np.full((30, 2), 0.5))) == 6


# ---------------------------------------------------------------- the picture


@pytest.fixture
def data(world: Any, make_videos: Any) -> DetectionData:
    world.write(make_videos(8))
    product = world.head(world.tubes())
    return load_detection(world.source(product), RoIHead.model_validate(product.settings))


def found_of(data: DetectionData, *, shift: float = 0.0) -> Found:
    """Each true box with its classes, shifted."""
    keys = data.keys_of("test")
    found = [KeyDetections(data.targets[k].box + shift, 0.8 * data.targets[k].actions, torch.ones(1)) for k in keys]
    return Found(data, keys, found)


def draw(data: DetectionData, found: Found, level: int = 60) -> bytes | None:
    return draw_boxes(
        data, found, lambda video_id, second: np.full((48, 64, 3), level, np.uint8), iou=0.5, title="heads/who"
    )


def test_the_picture_is_fixed_bytes(data: DetectionData) -> None:
    first = draw(data, found_of(data))
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 30, "font.size": 30}):
        assert draw(data, found_of(data)) == first
    assert first is not None
    assert b"matplotlib" not in first.lower()
    assert draw(data, found_of(data, shift=0.1)) != first
    assert draw(data, found_of(data), level=61) != first


def test_true_boxes_are_white_and_found_ones_coloured(data: DetectionData) -> None:
    png = draw(data, found_of(data, shift=0.2))
    assert png is not None
    picture = np.rint(imread(io.BytesIO(png))[..., :3] * 255)
    assert picture.shape[1] == round(100 * (0.35 + 4 * 3.2))
    in_panels = picture[40:-40, 35:]
    blue = (in_panels[..., 2] - in_panels[..., 0] > 80).sum()
    assert blue > 500
    without = draw(data, Found(data, data.keys_of("test"), [_nothing() for _ in data.keys_of("test")]))
    assert without is not None
    picture = np.rint(imread(io.BytesIO(without))[..., :3] * 255)
    assert (picture[40:-40, 35:, 2] - picture[40:-40, 35:, 0]).max() < 80


def _nothing() -> KeyDetections:
    return KeyDetections(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0))


def test_where_nobody_is_and_nothing_is_found_there_is_no_picture(world: Any, make_videos: Any, parts: Any) -> None:
    videos = make_videos(4)
    world.write([*videos, parts.Video("x")])
    product = world.head(world.tubes(videos))
    data = load_detection(world.source(product), RoIHead.model_validate(product.settings))
    keys = data.keys_of("none")
    assert len(keys) == 4
    assert draw(data, Found(data, keys, [_nothing() for _ in keys])) is None
