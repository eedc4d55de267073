import pyarrow as pa

from pipeline.graph import Unit
from pipeline.runner.bundle import rows_of
from pipeline.runner.feed import UnitSource, largest_first


def said(source: UnitSource) -> list[list[int]]:
    """The indices of the units of each bundle."""
    (task,) = source.get_read_tasks(8)
    tables = list(task())
    assert all(table.num_rows == 1 for table in tables)
    return [[row["index"] for row in rows_of(bundle)] for bundle in pa.concat_tables(tables).to_pylist()]


def test_each_unit_goes_alone_and_in_order_where_no_pace_is_known() -> None:
    units = [Unit(index, index * 4, 4, f"{index}", num_bytes=index) for index in (2, 0, 1)]
    assert said(UnitSource(units)) == [[2], [0], [1]]
    assert said(UnitSource(units, pace=lambda: {"clips/a": 0.0})) == [[2], [0], [1]]
    assert said(UnitSource(units, workers={"clips/a": 2})) == [[2], [0], [1]]


def test_units_that_turn_out_to_be_quick_go_together_and_towards_the_end_in_ever_smaller_bundles() -> None:
    units = [Unit(index, index, 1, f"{index}") for index in range(100)]
    pace = iter([{}, {"clips/a": 1.0}])
    bundles = said(UnitSource(units, pace=lambda: next(pace, {"clips/a": 0.001}), workers={"clips/a": 2}))
    assert [index for bundle in bundles for index in bundle] == list(range(100))
    sizes = [len(bundle) for bundle in bundles]
    assert sizes[:3] == [1, 1, 12]
    assert sizes[2:] == sorted(sizes[2:], reverse=True)
    assert sizes[-8:] == [1] * 8


def test_most_bytes_first_then_most_rows_then_as_they_are() -> None:
    units = [Unit(0, 0, 1, "", 5), Unit(1, 1, 1, "", 9), Unit(2, 2, 3, "", 5), Unit(3, 5, 1, "", 5)]
    assert [unit.index for unit in largest_first(units)] == [1, 2, 0, 3]
