"""Boxes of a frame in a view of it, and back."""

import numpy as np
import pytest

from pipeline.training.detection.view import into_view, out_of_view

MIDDLE = np.array([0.25, 0.0, 0.75, 1.0])  # half of the frame's width


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def test_a_box_inside_is_told_in_shares_of_the_view() -> None:
    found, rows = into_view(boxes((0.5, 0.2, 0.625, 0.6)), MIDDLE)
    assert found.tolist() == [[0.5, 0.2, 0.75, 0.6]]
    assert rows.tolist() == [0]


def test_a_box_is_clipped_to_the_view() -> None:
    found, _ = into_view(boxes((0.0, 0.5, 0.5, 1.0)), MIDDLE)
    assert found.tolist() == [[0.0, 0.5, 0.5, 1.0]]


@pytest.mark.parametrize(("left", "is_kept"), [(0.16, True), (0.15, False), (0.75, False)])
def test_a_box_of_which_little_is_seen_is_dropped(left: float, is_kept: bool) -> None:
    """It is 0.109 wide, and the view begins at 0.25 and ends at 0.75."""
    found, rows = into_view(boxes((0.3, 0.0, 0.4, 0.1), (left, 0.0, left + 0.109, 0.5)), MIDDLE)
    assert rows.tolist() == ([0, 1] if is_kept else [0])
    assert len(found) == len(rows)


def test_out_again() -> None:
    view = np.array([0.1, 0.2, 0.7, 0.9])
    inside = boxes((0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.7, 0.9))
    found, _ = into_view(inside, view)
    assert np.allclose(out_of_view(found, view), inside, atol=1e-15)
    assert found[1].tolist() == [0, 0, 1, 1]


def test_no_box() -> None:
    found, rows = into_view(boxes(), MIDDLE)
    assert found.shape == (0, 4)
    assert rows.shape == (0,)
