import pyarrow as pa

from pipeline.graph import Unit
from pipeline.runner.feed import UnitSource, largest_first


def test_one_table_of_one_row_for_each_unit_in_order() -> None:
    units = [Unit(index, index * 4, 4, f"{index}", num_bytes=index) for index in (2, 0, 1)]
    (task,) = UnitSource(units).get_read_tasks(8)
    tables = list(task())
    assert [table.num_rows for table in tables] == [1, 1, 1]
    assert [row["index"] for row in pa.concat_tables(tables).to_pylist()] == [2, 0, 1]
    assert tables[0].to_pylist() == [
        {"index": 2, "start_row": 8, "num_rows": 4, "rows_sha256": "2", "num_bytes": 2, "errors": "{}", "fatal": False}
    ]


def test_most_bytes_first_then_most_rows_then_as_they_are() -> None:
    units = [Unit(0, 0, 1, "", 5), Unit(1, 1, 1, "", 9), Unit(2, 2, 3, "", 5), Unit(3, 5, 1, "", 5)]
    assert [unit.index for unit in largest_first(units)] == [1, 2, 0, 3]
