import numpy as np
import pytest

from pipeline.boxes import iou_matrix, iou_rows

UNIT = np.array([[0.0, 0.0, 1.0, 1.0]])


def test_halves() -> None:
    assert iou_rows(UNIT, np.array([[0.0, 0.0, 1.0, 2.0]])) == 0.5
    assert iou_rows(UNIT, UNIT) == 1


def test_boxes_that_touch_overlap_only_where_the_last_pixel_is_inside() -> None:
    beside = np.array([[1.0, 0.0, 2.0, 1.0]])
    assert iou_rows(UNIT, beside) == 0
    assert iou_rows(UNIT, beside, inclusive=True) == 2 / (4 + 4 - 2)  # one column of two pixels in common


def test_boxes_without_area() -> None:
    point = np.array([[0.5, 0.5, 0.5, 0.5]])
    assert iou_rows(point, point) == 0
    assert iou_rows(point, UNIT) == 0
    assert iou_rows(point, point, inclusive=True) == 1  # one pixel


@pytest.mark.parametrize("inclusive", [False, True])
def test_inverted_boxes_overlap_nothing(inclusive: bool) -> None:
    inverted = np.array([[9.0, 9.0, 3.0, 2.0], [9.0, 2.0, 3.0, 9.0]])
    assert np.array_equal(iou_matrix(inverted, np.array([[0.0, 0.0, 10.0, 10.0]]), inclusive=inclusive), [[0], [0]])


def test_matrix_is_every_row_with_every_row() -> None:
    random = np.random.default_rng(0)
    first, second = (np.sort(random.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (5, 3))
    matrix = iou_matrix(first, second)
    assert matrix.shape == (5, 3)
    for i in range(5):
        for j in range(3):
            overlap = np.prod(
                np.maximum(np.minimum(first[i, 2:], second[j, 2:]) - np.maximum(first[i, :2], second[j, :2]), 0)
            )
            areas = np.prod(first[i, 2:] - first[i, :2]) + np.prod(second[j, 2:] - second[j, :2])
            assert matrix[i, j] == pytest.approx(overlap / (areas - overlap))
    assert iou_matrix(first[:0], second).shape == (0, 3)


def test_sides_of_single_precision_are_compared_in_double() -> None:
    third = np.array([[0, 0, 1 / 3, 1]], dtype=np.float32)
    assert iou_matrix(third, UNIT).dtype == np.float64
    assert iou_matrix(third, UNIT)[0, 0] == float(np.float32(1 / 3))
