import random

import pyarrow as pa
import pytest

from pipeline.sources.issues import Issues
from pipeline.sources.listing import list_videos
from pipeline.sources.rows import Rows
from schemas.manifest import MANIFEST_SCHEMA


@pytest.fixture
def issues():
    return Issues()


@pytest.fixture
def listing(make_tree, issues):
    return list_videos(str(make_tree("b.mp4", "a.mp4", "c/d.mp4", "e.mp4")), issues)


def test_no_row_is_an_empty_manifest(listing) -> None:
    table = Rows(listing).table()
    assert table.num_rows == 0
    assert table.schema.equals(MANIFEST_SCHEMA)


def test_rows_are_sorted_with_all_that_belongs_to_them(listing) -> None:
    entries = [
        ("b.mp4", [1], "train", None, "B"),
        ("c/d.mp4", [], None, None, None),
        ("a.mp4", [0, 2], "val", (2.5, 9.0), "A2"),
        ("a.mp4", [2], "test", (10.0, 12.0), "A1"),
    ]
    tables = []
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        rows = Rows(listing, [pa.field("note", pa.string())])
        rows.labels = ["x", "y", "z"]
        for path, label_ids, split, span_s, note in entries:
            rows.add(listing.relative.index(path), label_ids, split=split, span_s=span_s, extras=[note])
        tables.append(rows.table())
    assert all(table.equals(tables[0], check_metadata=True) for table in tables)
    assert tables[0].schema.names == [*MANIFEST_SCHEMA.names, "note"]
    found = [
        tuple(row[name] for name in ("video_id", "split", "labels", "label_ids", "start_s", "end_s", "note"))
        for row in tables[0].to_pylist()
    ]
    assert found == [
        ("a~mp4@10000-12000", "test", ["z"], [2], 10.0, 12.0, "A1"),
        ("a~mp4@2500-9000", "val", ["x", "z"], [0, 2], 2.5, 9.0, "A2"),
        ("b~mp4", "train", ["y"], [1], None, None, "B"),
        ("c+d~mp4", None, [], [], None, None, None),
    ]


def test_a_second_row_for_a_video_is_an_issue(listing, issues) -> None:
    rows = Rows(listing)
    assert rows.add(0, line=3, value="first")
    assert rows.add(0, span_s=(0, 1), line=4)
    assert not rows.add(0, line=5, value="again")
    assert not rows.add(0, span_s=(0.0001, 1.0001), line=6, value="same to the millisecond")
    assert rows.add(1, line=1, origin="a.txt")
    assert not rows.add(1, line=1, origin="b.txt", value="in both")
    assert rows.add(2)
    assert not rows.add(2, value="no lines")
    assert len(rows) == 4
    kept = "has the same video; that one is kept"
    assert [(row["line"], row["value"], row["detail"]) for row in issues.table().to_pylist()] == [
        (1, "in both", f"b.txt: a.txt line 1 {kept}"),
        (5, "again", f"line 3 {kept}"),
        (6, "same to the millisecond", f"line 4 {kept}"),
        (None, "no lines", f"an earlier row {kept}"),
    ]


def test_files_without_a_row(listing, issues) -> None:
    rows = Rows(listing)
    rows.add(listing.relative.index("a.mp4"))
    rows.add(listing.relative.index("b.mp4"), span_s=(0, 1))
    rows.set_aside(listing.relative.index("e.mp4"))
    rows.set_aside(None)
    rows.report_files_without_row()
    assert [row["value"] for row in issues.table().to_pylist()] == ["c/d.mp4"]
    assert rows.num_unused == 2
