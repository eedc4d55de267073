from __future__ import annotations

from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.sample import (
    Grid,
    Window,
    Windows,
    exact,
    filled,
    grid_ticks,
    is_part,
    on_grid,
    row_span,
    segments_outside,
    until_s,
)
from schemas.config import Clips
from schemas.manifest import Segment, VideoRow


def a_row(*, start_s: float | None = None, end_s: float | None = None, segments=(), video_id: str = "v") -> VideoRow:
    return VideoRow(video_id, "v.mp4", None, ("x",), (7,), start_s, end_s, tuple(Segment(*s) for s in segments))


def windows(spec: Clips, row: VideoRow | None = None, *, begin: float = 0, end: float = 10) -> list[Window]:
    row = row or a_row()
    span = row_span(row, begin_s=exact(begin), end_s=exact(end))
    assert span is not None
    return list(Windows(spec, row, span))


def spans(found: list[Window]) -> list[tuple[float, float, int]]:
    return [(float(w.start_s), float(w.end_s), w.num_real) for w in found]


def test_config_numbers_count_as_the_decimals_written() -> None:
    assert exact(3.2) == Fraction(16, 5)
    assert exact(1e-7) == Fraction(1, 10**7)
    assert exact(29.97) == Fraction(2997, 100)


def test_stride_ends_with_one_tail_window() -> None:
    found = windows(Clips(frames=16, fps=5, stride_s=3.2))
    assert spans(found) == [(0, 3.2, 16), (3.2, 6.4, 16), (6.4, 9.6, 16), (9.6, 10, 2)]


def test_overlapping_stride_stops_at_the_first_tail_window() -> None:
    found = windows(Clips(frames=4, fps=2, stride_s=0.5), end=3)
    assert spans(found) == [(0, 2, 4), (0.5, 2.5, 4), (1, 3, 4), (1.5, 3, 3)]


def test_a_frame_time_at_the_very_end_is_not_inside() -> None:
    # grid times 0, .2, .4, .6: with an end at .6 the last is outside, and a nanosecond later it is inside
    spec = Clips(frames=4, fps=5)
    assert [w.num_real for w in windows(spec, end=0.6)] == [3]
    assert windows(spec, end=0.600000001)[0].num_real == 4


@pytest.mark.parametrize("kind", ["stride", "uniform", "random", "segment"])
@pytest.mark.parametrize("tail", ["pad", "loop", "drop"])
def test_a_video_shorter_than_a_window_gives_one_clip_unless_dropped(kind: str, tail: str) -> None:
    num_clips = 3 if kind in ("uniform", "random") else None
    found = windows(Clips(frames=16, fps=5, windows=kind, num_clips=num_clips, tail=tail), begin=2, end=3.1)
    assert spans(found) == ([] if tail == "drop" else [(2, 3.1, 6)])


def test_drop_leaves_out_only_the_tail() -> None:
    assert spans(windows(Clips(frames=16, fps=5, tail="drop")))[-1] == (6.4, 9.6, 16)


def test_uniform_spreads_over_the_whole_range_and_centres_one() -> None:
    assert spans(windows(Clips(frames=4, fps=2, windows="uniform", num_clips=3), begin=1, end=11)) == [
        (1, 3, 4),
        (5, 7, 4),
        (9, 11, 4),
    ]
    assert spans(windows(Clips(frames=4, fps=2, windows="uniform", num_clips=1))) == [(4, 6, 4)]


@pytest.mark.parametrize(("frames", "stride_s"), [(4, None), (4, 0.3), (1, 0.7), (4, 70), (16, 1.1)])
@pytest.mark.parametrize("gap", [(3, 100), (1, 3.5), (-1, 8), (3, 12.4), (9, 200), (12, 12.1), (5, 6)])
@pytest.mark.parametrize("tail", ["pad", "drop"])
def test_a_window_inside_a_gap_is_left_out(frames: int, stride_s: float | None, gap: tuple, tail: str) -> None:
    spec = Clips(frames=frames, fps=4, stride_s=stride_s, tail=tail)
    every = windows(spec, end=150)
    row, gaps = a_row(), [(exact(gap[0]), exact(gap[1]))]
    span = row_span(row, begin_s=Fraction(0), end_s=Fraction(150))
    assert span is not None
    found = Windows(spec, row, span, gaps=gaps)

    def is_frozen(window: Window) -> bool:
        last = window.start_s + Fraction(window.num_real - 1, 4)
        return gaps[0][0] <= window.start_s and last < gaps[0][1]

    assert list(found) == [window for window in every if not is_frozen(window)]
    if tail == "pad":
        assert found.num_frozen == sum(map(is_frozen, every))


@pytest.mark.parametrize("kind", ["stride", "uniform", "random", "segment"])
def test_an_absurd_gap_costs_nothing(kind: str) -> None:
    spec = Clips(frames=4, fps=4, windows=kind, num_clips=50 if kind in ("uniform", "random") else None)
    row = a_row()
    span = row_span(row, begin_s=Fraction(0), end_s=Fraction(10**12))
    assert span is not None
    found = Windows(spec, row, span, gaps=[(Fraction(19, 2), Fraction(10**12 - 1))])
    assert len(list(found)) <= 12  # one by one they would take weeks
    assert list(found) == list(found)


def test_windows_are_made_one_by_one() -> None:
    row, spec = a_row(), Clips(frames=4, fps=4, stride_s=0.001)
    span = row_span(row, begin_s=Fraction(0), end_s=Fraction(10**9))
    assert span is not None
    assert len(list(islice(Windows(spec, row, span), 5))) == 5


def test_random_depends_on_seed_and_video_only() -> None:
    spec = Clips(frames=4, fps=2, windows="random", num_clips=5, seed=3)
    found = windows(spec)
    starts = [w.start_s for w in found]
    assert starts == sorted(set(starts))
    assert len(starts) == 5
    assert all(w.num_real == 4 and 0 <= w.start_s <= 8 for w in found)
    assert windows(spec) == found
    assert [float(s) for s in starts] == [0.579575, 2.542581, 2.742825, 4.793801, 7.335159]  # for ever
    assert windows(spec, a_row(video_id="w")) != found
    assert windows(spec.model_copy(update={"seed": 4})) != found
    # a longer run of the same seed keeps the clips of the shorter one
    assert set(starts) < {w.start_s for w in windows(spec.model_copy(update={"num_clips": 9}))}


def test_segments_are_started_or_centred_and_equal_windows_are_one_clip() -> None:
    row = a_row(segments=[(6, 9, 2), (1, 2, 5), (1, 2, 3), (6, 9, 1), (5, 10, 4), (20, 21, 0)])
    found = windows(Clips(frames=4, fps=2, windows="segment"), row)
    assert spans(found) == [(1, 2, 2), (6.5, 8.5, 4)]
    assert [w.label_ids for w in found] == [(3, 5), (1, 2, 4)]
    span = row_span(row, begin_s=Fraction(0), end_s=Fraction(10))
    assert span is not None
    assert segments_outside(row, span) == 1


def test_short_segments_of_one_start_keep_ids_apart() -> None:
    found = windows(Clips(frames=8, fps=2, windows="segment"), a_row(segments=[(1, 2, 0), (1, 3, 1)]))
    assert [w.clip_id("v") for w in found] == ["v@1000000-2000000", "v@1000000-3000000"]
    assert [w.num_real for w in found] == [2, 4]


def test_without_segments_the_row_is_the_segment() -> None:
    spec = Clips(frames=4, fps=2, windows="segment")
    assert spans(windows(spec, a_row(start_s=3, end_s=8))) == [(4.5, 6.5, 4)]
    assert windows(spec)[0].label_ids == (7,)


def test_the_row_span_meets_the_video() -> None:
    def cut(**bounds: float) -> tuple[float, float] | None:
        span = row_span(a_row(**bounds), begin_s=Fraction(1), end_s=Fraction(9))
        return span and (float(span.start_s), float(span.end_s))

    assert cut() == (1, 9)
    assert cut(start_s=0.5, end_s=20) == (1, 9)
    assert cut(start_s=3.1, end_s=4.2) == (3.1, 4.2)
    assert cut(start_s=9) is None
    assert cut(end_s=1) is None


def test_which_rows_ask_for_a_part_and_how_far_it_goes() -> None:
    stride, by_segment = Clips(frames=4, fps=2), Clips(frames=4, fps=2, windows="segment")

    def part(spec: Clips, **row) -> float | str | None:
        until = until_s(a_row(**row), spec)
        return (until and float(until)) if is_part(a_row(**row), spec) else "whole"

    segments = [(4, 5, 0), (1, 2.5, 1)]
    assert part(stride) == part(by_segment) == part(stride, segments=segments) == "whole"
    assert part(stride, start_s=0.0) is None  # to the video's end
    assert part(stride, end_s=9.9) == part(by_segment, start_s=1, end_s=9.9) == 9.9
    assert part(by_segment, segments=segments) == 5
    assert part(by_segment, segments=segments, end_s=4.5) == 4.5


def test_tail_policies_fill_the_clip() -> None:
    assert filled(2, Clips(frames=5, fps=1, tail="pad")) == [0, 1, 1, 1, 1]
    assert filled(2, Clips(frames=5, fps=1, tail="loop")) == [0, 1, 0, 1, 0]
    assert filled(5, Clips(frames=5, fps=1, tail="loop")) == [0, 1, 2, 3, 4]


@given(
    frames=st.integers(1, 32),
    fps=st.sampled_from([0.3, 1, 5, 12.5, 23.976, 25, 29.97]),
    stride_s=st.sampled_from([None, 0.1, 0.7, 3.2, 11]),
    begin=st.fractions(-5, 50, max_denominator=90000),
    length=st.fractions(Fraction(1, 1000), 60, max_denominator=90000),
    kind=st.sampled_from(["stride", "uniform", "random"]),
    time_base=st.sampled_from([Fraction(1, 12800), Fraction(1001, 30000), Fraction(1, 7)]),
)
def test_every_window_lies_in_the_span_with_its_grid(frames, fps, stride_s, begin, length, kind, time_base) -> None:
    spec = Clips(
        frames=frames,
        fps=fps,
        windows=kind,
        stride_s=stride_s if kind == "stride" else None,
        num_clips=None if kind == "stride" else 4,
    )
    row, end = a_row(), begin + length
    span = row_span(row, begin_s=begin, end_s=end)
    assert span is not None
    found = list(Windows(spec, row, span))
    assert found
    assert len({w.clip_id("v") for w in found}) == len(found)
    assert "." not in "".join(w.clip_id("v") for w in found)
    assert [w.start_s for w in found] == sorted(w.start_s for w in found)
    for window in found:
        all_times = [window.start_s + Fraction(k) / exact(fps) for k in range(frames)]
        inside = [t for t in all_times if begin <= t < end]
        assert grid_ticks(window, spec, time_base) == [t // time_base for t in inside]
        assert window.num_real == len(inside) >= 1
        whole = len(inside) == frames
        assert window.end_s == (window.start_s + frames / exact(fps) if whole else end)
    if kind == "stride":
        assert sum(w.num_real < frames for w in found) <= 1
        assert all(w.num_real == frames for w in found[:-1])


@pytest.mark.parametrize(
    ("spec", "end", "grid", "num_real"),
    [
        # 4 frames at 2 fps: whole windows of 2 s, and one more grid time at their end
        (Clips(frames=4, fps=2), 4.5, Grid(2, 5), [5, 5, 1]),
        (Clips(frames=4, fps=2), 4.0, Grid(2, 5), [5, 4]),  # the last closing time is the video's end
        (Clips(frames=4, fps=2, tail="drop"), 3.6, Grid(2, 5), [5, 4]),  # whole: its last grid time is 3.5
        (Clips(frames=4, fps=2), 4.0, Grid(2, 4), [4, 4]),
        (Clips(frames=4, fps=2), 3.3, Grid(10, 21), [21, 13]),
        (Clips(frames=4, fps=2), 3.3, Grid(1, 3), [3, 2]),
    ],
)
def test_another_grid_in_the_same_windows(spec: Clips, end: float, grid: Grid, num_real: list[int]) -> None:
    found = windows(spec, end=end)
    assert [on_grid(window, grid).num_real for window in found] == num_real
    for window in found:
        other = on_grid(window, grid)
        assert (other.start_s, other.end_s, other.label_ids) == (window.start_s, window.end_s, window.label_ids)
        ticks = grid_ticks(other, grid, Fraction(1, 1000))
        assert ticks == [int((window.start_s + k / exact(grid.fps)) * 1000) for k in range(other.num_real)]


def test_another_grid_ends_with_the_segment() -> None:
    row = a_row(segments=[(0, 2, 1), (3, 4.6, 2)])  # the second is cut to one frame short of whole
    found = windows(Clips(frames=4, fps=2, windows="segment"), row)
    assert [on_grid(window, Grid(2, 5)).num_real for window in found] == [4, 4]
