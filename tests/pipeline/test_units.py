import os

import pyarrow as pa
import pytest

from pipeline.store import Store
from pipeline.units import (
    MANIFEST,
    ROWS_PER_GROUP,
    cut_units,
    manifest_source,
    plan_units,
    read_manifest,
    unit_rows,
    write_manifest,
)
from schemas.errors import ReelmillError
from schemas.manifest import MANIFEST_SCHEMA, SEGMENT_FIELDS, Segment


def manifest(num_rows: int, **changes) -> pa.Table:
    rows = [
        {
            "video_id": f"v{i:06d}",
            "uri": f"/videos/{i}.mp4",
            "split": "train" if i % 2 else None,
            "labels": ["a", "b"][: i % 3],
            "label_ids": [0, 1][: i % 3],
            "start_s": 0.1 * i if i % 5 == 0 else None,
            "end_s": None,
            "bytes": i,
            "etag": "x",
            **changes,
        }
        for i in range(num_rows)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def test_units_cover_the_manifest() -> None:
    units = plan_units(manifest(10), 4)
    assert [(u.index, u.start_row, u.num_rows) for u in units] == [(0, 0, 4), (1, 4, 4), (2, 8, 2)]
    assert plan_units(manifest(0), 4) == []


def test_a_unit_ends_before_its_videos_hold_too_much() -> None:
    table = manifest(6).set_column(7, "bytes", pa.array([5, 4, 1, None, 30, 2], pa.int64()))
    units = plan_units(table, 4, bytes_per_unit=10)
    assert [(u.num_rows, u.num_bytes) for u in units] == [(4, 10), (1, 30), (1, 2)]  # no size counts nothing
    assert [u.num_rows for u in plan_units(table, 2, bytes_per_unit=9)] == [2, 2, 1, 1]
    assert [u.num_rows for u in plan_units(table, 64, bytes_per_unit=1)] == [1, 1, 2, 1, 1]
    assert plan_units(table, 4, bytes_per_unit=10**12) == plan_units(table, 4)


def test_a_unit_is_known_by_its_rows_however_the_others_were_cut() -> None:
    table = manifest(10)
    assert cut_units(table, [4, 4, 2]) == plan_units(table, 4)
    assert cut_units(table, [1, 2])[1].rows_sha256 == plan_units(table.slice(1), 2)[0].rows_sha256


def test_a_million_rows_are_planned_at_once() -> None:
    """No loop over rows: a million of them take about a second."""
    rows = manifest(1000)
    table = pa.concat_tables([rows] * 1000)
    assert len(plan_units(table, 64, bytes_per_unit=20_000)) > 15_625


def test_equal_rows_give_equal_units_however_they_are_chunked() -> None:
    whole = manifest(10)
    chunked = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 4), whole.slice(7)])
    assert plan_units(whole, 4) == plan_units(chunked, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "/x"},
        {"etag": "y"},
        {"labels": ["ab"]},
        {"label_ids": [2]},
        {"start_s": 1.0},
        {"split": "val"},
        {"bytes": None},
    ],
)
def test_any_changed_cell_changes_its_unit_only(change) -> None:
    before = manifest(10)
    after = pa.concat_tables([before.slice(0, 9), manifest(10, **change).slice(9)])
    old, new = plan_units(before, 4), plan_units(after, 4)
    assert old[:2] == new[:2]
    assert old[2].rows_sha256 != new[2].rows_sha256


def test_cells_do_not_run_into_each_other() -> None:
    one = manifest(1, labels=["a", "b"], label_ids=[1])
    two = manifest(1, labels=["ab"], label_ids=[1])
    three = manifest(1, labels=["a"], label_ids=[1, 1])
    assert len({plan_units(table, 1)[0].rows_sha256 for table in (one, two, three)}) == 3


def test_columns_of_a_users_own() -> None:
    """Bytes that are no text, structs and maps: units are cut, and a changed cell is seen."""
    table = pa.table({"video_id": ["a", "b"]})
    columns = {
        "raw": pa.array([b"\xff\x80", None]),
        "fixed": pa.array([b"\xff\x80", None], pa.binary(2)),
        "view": pa.array([b"\xff\x80", None], pa.binary_view()),
        "struct": pa.array([{"a": 1}, None]),
        "structs": pa.array([[{"a": 1}], None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "lists": pa.array([[b"\xff"], None]),
        "category": pa.array(["x", None]).dictionary_encode(),
    }
    for name, column in columns.items():
        units = plan_units(table.append_column(name, column), 1)
        swapped = plan_units(table.append_column(name, pa.array(column.to_pylist()[::-1], column.type)), 1)
        assert all(one.rows_sha256 != other.rows_sha256 for one, other in zip(units, swapped, strict=True)), name


def test_unit_rows_across_row_groups(tmp_path) -> None:
    store = Store(str(tmp_path))
    table = manifest(ROWS_PER_GROUP + 100)
    write_manifest(store, table)
    size = 1000  # does not divide the row group
    for unit in (plan_units(table, size)[i] for i in (0, ROWS_PER_GROUP // size, -1)):
        rows = unit_rows(store, unit)
        assert [row.video_id for row in rows] == [
            f"v{i:06d}" for i in range(unit.start_row, unit.start_row + unit.num_rows)
        ]


def test_a_worker_sees_a_new_manifest(tmp_path) -> None:
    store = Store(str(tmp_path))
    write_manifest(store, manifest(4))
    unit = plan_units(read_manifest(store), 4)[0]
    assert unit_rows(store, unit)[0].uri == "/videos/0.mp4"
    write_manifest(store, manifest(4, uri="/new"))
    assert unit_rows(store, plan_units(read_manifest(store), 4)[0])[0].uri == "/new"
    with pytest.raises(ReelmillError, match="was made anew while this run used it"):
        unit_rows(store, unit)  # planned on the old rows: its receipt would lie


def test_a_new_manifest_of_the_same_size_and_second_is_seen(tmp_path) -> None:
    """As one written twice in a second into a bucket, whose clock is no finer."""
    store = Store(str(tmp_path))
    for name in ("/ab", "/ba"):
        write_manifest(store, manifest(4, uri=name))
        os.utime(tmp_path / MANIFEST, (1e9, 1e9))
        assert unit_rows(store, plan_units(read_manifest(store), 4)[0])[0].uri == name


def test_equal_manifests_are_equal_files(tmp_path) -> None:
    for name in ("a", "b"):
        write_manifest(Store(str(tmp_path / name)), manifest(20))
    assert (tmp_path / "a/manifest.parquet").read_bytes() == (tmp_path / "b/manifest.parquet").read_bytes()


def test_segments_come_along(tmp_path) -> None:
    table = manifest(2)
    for field, values in zip(SEGMENT_FIELDS, ([[1.0], []], [[2.5], []], [[7], []]), strict=True):
        table = table.append_column(field, pa.array(values, field.type))
    store = Store(str(tmp_path))
    write_manifest(store, table)
    rows = unit_rows(store, plan_units(table, 2)[0])
    assert rows[0].segments == (Segment(1.0, 2.5, 7),)
    assert rows[1].segments == ()


def test_no_manifest(tmp_path) -> None:
    assert manifest_source(Store(str(tmp_path))) is None
    with pytest.raises(ReelmillError, match="no manifest here; make one with `reelmill index`"):
        read_manifest(Store(str(tmp_path)))
