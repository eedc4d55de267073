from __future__ import annotations

from pipeline.video.clock import Clock


def times(*frames: tuple[int | None, int | None], has_pts: bool = True, duration: int = 0) -> list[int]:
    clock = Clock(has_pts=has_pts, interval=40)
    return [clock.ticks(pts, dts, duration) for pts, dts in frames]


def test_pts_count_where_the_container_stores_them() -> None:
    assert times((5, 3), (9, 4), (20, 5)) == [5, 9, 20]


def test_dts_counts_once_pts_run_backwards() -> None:
    # B-frames in a file that stores no composition offsets: pts are the order of storage
    assert times((0, 0), (3, 1), (1, 2), (2, 3), (6, 4)) == [0, 3, 2, 3, 4]


def test_dts_counts_where_pts_are_made_up() -> None:
    assert times((1, 2), (3, 3), (9, None), has_pts=False) == [2, 3, 43]


def test_a_frame_without_time_follows_the_one_before() -> None:
    assert times((None, None), (None, None), (100, None), (None, None)) == [0, 40, 100, 140]
    assert times((None, None), (None, None), duration=33) == [0, 33]
