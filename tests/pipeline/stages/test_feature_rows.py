"""Which rows are handed on: those of videos whose clips all came, and came well."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages.clip_stream import Clip
from pipeline.stages.feature_rows import FeatureRows, Row
from pipeline.stages.spool import Spool
from pipeline.store import Store
from schemas.errors import ReelmillError


class Written:
    def __init__(self) -> None:
        self.rows: list[tuple[Row, np.ndarray]] = []

    def write(self, row: Row, values: np.ndarray) -> None:
        self.rows.append((row, values))

    @property
    def ids(self) -> list[str]:
        return [row.clip_id for row, _ in self.rows]


def clip(name: str) -> Clip:
    return Clip(name, name[0], 0.0, 0.1 + 0.2, 1.0, (3, 4), 8, 24, 32)


def row(name: str, view: str = "center") -> Row:
    return Row(name, name[0], view, 0.0, 0.1 + 0.2, 1.0, (3, 4), 5, 8, (1, 2, 16, 16), (24, 32))


@pytest.fixture
def spool(store: Store) -> Spool:
    store.put("features/f/_tmp/x", b"")  # the folder is there, as in a stage
    return Spool(store, "features/f")


def filled(spool: Spool, names: str, *, expected: dict[str, int], failing: str = "") -> tuple[Written, FeatureRows]:
    written = Written()
    rows = FeatureRows(written, spool, expected=expected)
    for name in names.split():
        rows.clip(clip(name), f"clip {name} is broken" if name == failing else "")
        if name != failing:
            rows.row(row(name), np.float32([1, 2]))
    rows.finish()
    return written, rows


def test_rows_come_back_as_they_were(spool: Spool) -> None:
    written = Written()
    rows = FeatureRows(written, spool, expected={"a": 1})
    rows.clip(clip("a0"))
    values = np.random.default_rng(0).normal(size=(3, 1, 2, 2)).astype(np.float16)
    for view in ("center", "center_flip"):
        rows.row(row("a0", view), values)
    assert written.rows == []
    rows.finish()
    assert [one for one, _ in written.rows] == [row("a0"), row("a0", "center_flip")]
    assert written.rows[1][1].dtype == np.float16
    np.testing.assert_array_equal(written.rows[1][1], values)
    assert rows.num_rows == {"a": 2}


def test_a_video_with_a_problem_leaves_none(spool: Spool) -> None:
    written, rows = filled(spool, "a0 a1 b0 b1 c0", expected={"a": 2, "b": 2, "c": 1}, failing="b1")
    assert written.ids == ["a0", "a1", "c0"]
    assert rows.problems == {"b": "clip b1 is broken"}
    assert rows.num_rows == {"a": 2, "c": 1}


def test_the_first_sentence_counts(spool: Spool) -> None:
    rows = FeatureRows(Written(), spool, expected={"a": 1})
    rows.clip(clip("a0"), "the first")
    rows.fail("a", "the second")
    rows.finish()
    assert rows.problems == {"a": "the first"}


@pytest.mark.parametrize(("names", "found"), [("a0 b0", 1), ("b0", 0), ("a0 a1 a2 b0", 3)])
def test_clips_that_are_missing_or_too_many(spool: Spool, names: str, found: int) -> None:
    written, rows = filled(spool, names, expected={"a": 2, "b": 1})
    assert written.ids == ["b0"]
    assert rows.problems["a"].startswith(f"{found} of its 2 clips are in the shard")


@pytest.mark.parametrize("names", ["z0", "a0 b0 a1"])
def test_a_video_that_nobody_expects_stops_the_unit(spool: Spool, names: str) -> None:
    with pytest.raises(ReelmillError, match="is of a video that the ledger of its product doesn't count"):
        filled(spool, names, expected={"a": 2, "b": 1})
