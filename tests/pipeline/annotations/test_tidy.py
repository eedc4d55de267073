import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations.columns import BoxColumns, SegmentColumns
from pipeline.annotations.report import Report
from pipeline.annotations.tidy import span_fault, tidy_boxes, tidy_segments, tidy_tubes
from schemas.annotation import SegmentTable, Tube, TubeSet, VideoShape


def segments(*spans: tuple[float, float], label: str = "run") -> SegmentTable:
    columns = SegmentColumns(["v"], ["run"], ambiguous="Ambiguous")
    for start_s, end_s in spans:
        columns.add("v", start_s, end_s, label)
    return columns.table()


SEGMENTS = {
    (0.0, 10.0): ((0, 10), None),
    (2.0, 2.0): (None, "empty_segment"),
    (3.0, 2.0): (None, "inverted_segment"),
    (-0.5, 2.0): (None, "segment_before_start"),
    (10.0, 12.0): (None, "segment_after_end"),
    (9.0, 12.0): ((9, 10), "segment_clipped"),
}


@pytest.mark.parametrize("span", SEGMENTS)
@pytest.mark.parametrize("label", ["run", "Ambiguous"])
def test_segments(span, label) -> None:
    kept, problem = SEGMENTS[span]
    report = Report()
    table = tidy_segments(segments(span, (4, 5), label=label), report, end_s=np.array([10.0]))
    assert list(zip(table.start_s, table.end_s, strict=True)) == [*([kept] if kept else []), (4, 5)]
    assert report.counts == ({problem: 1} if problem else {})


def test_where_no_end_is_known_nothing_is_after_it() -> None:
    for end_s in (None, np.array([np.nan])):
        assert tidy_segments(segments((9, 1e6)), Report(), end_s=end_s).end_s.tolist() == [1e6]


def test_a_problem_is_named_in_full() -> None:
    report = Report()
    tidy_segments(segments((3, 2)), report)
    assert report.lines() == ["1 × inverted segment (dropped): v: run: segment [3, 2] is inverted"]


TIMES = st.floats(-5, 20)


@given(spans=st.lists(st.tuples(TIMES, TIMES), max_size=8), end_s=st.floats(1, 15))
def test_what_remains_is_in_the_video(spans, end_s) -> None:
    report = Report()
    table = tidy_segments(segments(*spans), report, end_s=np.array([end_s]))
    assert all(span_fault(start, end) is None for start, end in zip(table.start_s, table.end_s, strict=True))
    assert (table.end_s <= end_s).all()
    assert len(table) + report.num_dropped == len(spans)
    again = Report()
    assert len(tidy_segments(table, again, end_s=np.array([end_s]))) == len(table)
    assert not again.counts


BOXES = {
    (0, 0, 1, 1): ((0, 0, 1, 1), None),
    (0.5, 0.5, 0.5, 0.9): (None, "degenerate_box"),
    (0.6, 0.5, 0.5, 0.9): (None, "degenerate_box"),
    (1.0, 0, 1.5, 1): (None, "box_outside"),
    (-1, -1, -0.5, -0.5): (None, "box_outside"),
    (-0.5, 0, 1.5, 1): ((0, 0, 1, 1), "box_clipped"),
    (0.75, 0.5, 1.25, 0.75): ((0.75, 0.5, 1, 0.75), "box_clipped"),
}


@pytest.mark.parametrize("box", BOXES)
def test_boxes(box) -> None:
    kept, problem = BOXES[box]
    columns = BoxColumns((), ("run",))
    columns.add("v", 902, box, 0)
    columns.add("v", 903, (0.25, 0.25, 0.75, 0.75), 0)
    report = Report()
    table = tidy_boxes(columns.table(), report)
    assert [tuple(row) for row in table.box.tolist()] == [*([kept] if kept else []), (0.25, 0.25, 0.75, 0.75)]
    assert report.counts == ({problem: 1} if problem else {})


def tubes(*boxes: tuple[float, float, float, float], shape: VideoShape, start: int = 3) -> TubeSet:
    scores = np.arange(len(boxes), dtype=np.float64)
    return TubeSet((Tube(0, 0, start, np.array(boxes, np.float64), box_scores=scores),), ("v",), ("run",), (shape,))


def test_a_tube_is_cut_where_its_box_is_not_in_the_video() -> None:
    good, outside, degenerate = (1, 1, 5, 5), (50, 1, 60, 5), (3, 3, 3, 9)
    report = Report()
    shape = VideoShape(20, 25, 40, 30)
    tidied = tidy_tubes(tubes(good, good, outside, degenerate, (-2, 20, 10, 40), shape=shape), report)
    assert [(t.start_frame, t.end_frame, t.box_scores.tolist()) for t in tidied.tubes] == [(3, 5, [0, 1]), (7, 8, [4])]
    assert tidied.tubes[1].boxes.tolist() == [[0, 20, 10, 30]]
    assert report.counts == {"bad_tube": 1, "box_clipped": 1}


def test_a_tube_ends_with_its_video() -> None:
    box = (1.0, 1.0, 5.0, 5.0)
    report = Report()
    assert [t.end_frame for t in tidy_tubes(tubes(box, box, box, shape=VideoShape(5)), report).tubes] == [5]
    assert tidy_tubes(tubes(box, box, shape=VideoShape(3)), report).tubes == ()
    assert report.counts == {"bad_tube": 2}


def test_without_a_size_no_box_is_beyond_it() -> None:
    report = Report()
    assert tidy_tubes(tubes((1, 1, 5000, 5), shape=VideoShape(20)), report).tubes[0].boxes[0, 2] == 5000
    assert not report.counts
