"""Suppression of boxes, against plain loops and by hand."""

import numpy as np
import pytest

from pipeline.heads.box_nms import nms

BOXES = np.array([[0, 0, 4, 4], [0, 0, 4, 3], [2, 0, 6, 4], [4, 0, 8, 4], [9, 9, 9, 12]], dtype=np.float64)


def loop_iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def random_boxes(rng: np.random.Generator, num: int) -> np.ndarray:
    corner = rng.integers(0, 12, (num, 2))  # whole numbers, so that many overlaps are equal
    return np.concatenate([corner, corner + rng.integers(1, 9, (num, 2))], axis=1).astype(np.float64)


@pytest.mark.parametrize(
    ("iou", "kept"), [(0.8, [2, 0, 1, 3, 4]), (0.75, [2, 0, 1, 3, 4]), (0.5, [2, 0, 3, 4]), (0.3, [2, 1, 4])]
)
def test_suppression_by_hand(iou: float, kept: list[int]) -> None:
    scores = np.array([0.5, 0.4, 0.9, 0.3, 0.1])
    assert nms(BOXES, scores, iou=iou).tolist() == kept  # an overlap of exactly `iou` stays
    assert nms(BOXES, scores, iou=iou, keep=2).tolist() == kept[:2]


def test_equal_scores_keep_their_order_and_none_is_fine() -> None:
    assert nms(BOXES[[0, 0, 3]], np.array([0.5, 0.5, 0.5]), iou=0.5).tolist() == [0, 2]
    assert nms(np.zeros((0, 4)), np.zeros(0), iou=0.5).tolist() == []


def test_suppression_against_a_loop() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        boxes, scores = random_boxes(rng, 30), rng.integers(0, 8, 30) / 8
        rest, expected = sorted(range(30), key=lambda row: (-scores[row], row)), []
        while rest:
            best = rest.pop(0)
            expected.append(best)
            rest = [row for row in rest if loop_iou(boxes[best], boxes[row]) <= 0.4]
        assert nms(boxes, scores, iou=0.4).tolist() == expected
