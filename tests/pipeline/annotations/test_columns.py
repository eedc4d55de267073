import numpy as np

from pipeline.annotations.columns import BoxColumns, SegmentColumns, continue_names, merge_segments
from pipeline.annotations.report import Report
from schemas.annotation import AMBIGUOUS, SegmentTable


def table(videos: list[str], labels: list[str], *rows: tuple[str, float, str]) -> SegmentTable:
    columns = SegmentColumns(videos, labels, ambiguous="?")
    for video, start_s, label in rows:
        columns.add(video, start_s, start_s + 1, label)
    return columns.table(subset=["training"] * len(videos))


def test_names_go_on() -> None:
    assert continue_names(("b", "a"), ("c", "a", "c")) == ["b", "a", "c"]


def test_empty_tables() -> None:
    assert len(SegmentColumns((), ()).table()) == 0
    assert BoxColumns(("v",), (), scored=True).table().box.shape == (0, 4)


def test_files_are_merged_by_name() -> None:
    one = table(["a", "b"], ["run"], ("b", 1, "run"), ("a", 2, "?"))
    other = table(["c", "b"], ["jump", "run"], ("c", 3, "jump"), ("c", 4, "run"), ("b", 5, "run"))
    report = Report()
    merged = merge_segments([one, other], report)
    assert (merged.videos, merged.labels) == (("a", "b", "c"), ("jump", "run"))
    assert merged.video.tolist() == [1, 0, 2, 2]
    assert merged.label.tolist() == [1, AMBIGUOUS, 0, 1]
    assert merged.start_s.tolist() == [1, 2, 3, 4]
    assert merged.subset == ("training",) * 3
    assert np.isnan(merged.duration_s).all()
    assert report.counts == {"duplicate_row": 1}
    assert merge_segments([one, other], Report(), sort_labels=False).labels == ("run", "jump")
    assert merge_segments([one], report) is one
