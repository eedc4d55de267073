"""Steps of a video by hand: what stands at each, and which windows make no even steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.training.temporal.grid import Grid, read_grid, rows_of_steps
from schemas.errors import ReelmillError


def grid_of(*videos: Sequence[float], window_s: float = 3.2) -> Grid:
    """Of videos whose windows start at these seconds."""
    starts = np.concatenate([np.asarray(video, dtype=np.float64) for video in videos])
    windows = np.stack([starts, starts + window_s / 2, starts + window_s], axis=1)
    offsets = np.cumsum([0, *(len(video) for video in videos)])
    return read_grid(windows, offsets, where="heads/h")


def steps(starts: Sequence[float], grid: Grid) -> list[int]:
    return rows_of_steps(np.array(starts), grid, where="heads/h", video_id="v").tolist()


def test_step_k_is_the_middle_of_window_k() -> None:
    grid = grid_of([0, 1.6, 3.2], [0, 1.6])
    assert grid == Grid(step_s=1.6, window_s=3.2)
    assert grid.seconds(np.array([0.0, 2.0]), first_s=1.6).tolist() == pytest.approx([1.6, 4.8])
    assert grid.steps(np.array([1.6, 4.0]), first_s=1.6).tolist() == pytest.approx([0.0, 1.5])


def test_a_step_between_two_videos_is_none() -> None:
    assert grid_of([0, 2], [50, 52, 54], [7]).step_s == 2


def test_the_commonest_step_is_the_grid_though_windows_are_missing() -> None:
    grid = grid_of([0, 1, 2, 5, 6], [0, 3])
    assert grid.step_s == 1
    assert steps([0, 1, 2, 5, 6], grid) == [0, 1, 2, 2, 2, 3, 4]
    assert steps([10, 13], grid) == [0, 0, 0, 1]
    assert steps([4], grid) == [0]


def test_where_windows_of_two_clips_start_together_the_first_is_kept() -> None:
    starts = [0, 0.4, 0.8, 0.8, 1.2, 1.2, 1.6]  # clips at 0 and 0.8 s, each with windows 0.4 s apart
    grid = grid_of(starts)
    assert grid.step_s == 0.4
    assert steps(starts, grid) == [0, 1, 2, 4, 6]


def test_steps_need_not_begin_at_0() -> None:
    assert steps([0.37, 2.37, 4.37], grid_of([0.37, 2.37, 4.37], [5, 7])) == [0, 1, 2]


@pytest.mark.parametrize("digits", [16, 6])
def test_no_error_adds_up_in_a_long_video(digits: int) -> None:
    starts = (np.arange(30_000) / 3).round(
        digits
    )  # 2 h 46 min in steps that no decimal says; or stored in microseconds
    grid = grid_of(starts.tolist())
    assert abs(grid.step_s - 1 / 3) < 1e-9
    assert steps(starts.tolist(), grid) == list(range(30_000))


def test_the_last_windows_may_end_early() -> None:
    starts = np.arange(5.0)
    windows = np.stack([starts, starts + 1, np.minimum(starts + 2, 4.5)], axis=1)
    assert read_grid(windows, np.array([0, 5]), where="heads/h") == Grid(step_s=1.0, window_s=2.0)


def test_uneven_windows_are_refused_with_a_sentence() -> None:
    grid = grid_of([0, 2, 4, 6])
    with pytest.raises(ReelmillError) as error:
        steps([0.5, 2.5, 3.7], grid)
    assert str(error.value) == (
        "heads/h: the windows of video v are not 2 s apart as those of the others are (one starts at 3.700 s, the "
        "first at 0.500 s); a head needs even steps: make the clips' stride_s a multiple of the windows' stride, and "
        "leave out other windows"
    )


def test_a_video_of_another_stride_is_named() -> None:
    grid = grid_of([0, 2, 4, 6], [0, 3, 6])
    assert steps([0, 2], grid) == [0, 1]
    with pytest.raises(ReelmillError, match="the windows of video v are not 2 s apart"):
        steps([0, 3, 6], grid)


@pytest.mark.parametrize("videos", [[[0], [4], [9]], [[3, 3.001]]])
def test_single_windows_have_no_steps(videos: list[list[float]]) -> None:
    with pytest.raises(ReelmillError, match=r"heads/h: no video has two windows of features, .*shorter stride_s"):
        grid_of(*videos)
