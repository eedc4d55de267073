import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph import Product, Unit
from pipeline.runner import bundle
from pipeline.runner.bundle import MOST_UNITS, bundle_of, rows_of, steps, units_a_task
from pipeline.store import Store
from schemas.config import Limits
from schemas.news import Began, Progress

UNITS = [Unit(index, index * 4, 4, f"{index}", num_bytes=index) for index in (2, 0, 1)]


class Line:
    """Keeps what is posted, where a real one has a mailbox."""

    def __init__(self) -> None:
        self.posted: list[list[Any]] = []

    def post(self, all_news: list[Any], *, wait: bool) -> None:
        self.posted.append(list(all_news))


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def run(tmp_path: Path, line: Line):
    product = Product("clips", "c", settings={}, upstream={}, code_version=1)

    def go(sent: dict[str, Any]) -> list[dict[str, Any]]:
        return rows_of(steps(sent, product=product, store=Store(str(tmp_path)), limits=Limits(), line=line))  # type: ignore[arg-type]

    return go


def test_a_bundle_holds_its_units_as_rows_without_errors() -> None:
    rows = rows_of(bundle_of(UNITS))
    assert [row["index"] for row in rows] == [2, 0, 1]
    assert rows[0] == {
        **{"index": 2, "start_row": 8, "num_rows": 4, "rows_sha256": "2", "num_bytes": 2},
        **{"errors": "{}", "fatal": False},
    }


def test_each_unit_of_a_bundle_is_made_and_the_mailbox_has_all_news_at_the_end(run, line, monkeypatch) -> None:
    def step(row: dict[str, Any], *, tell: Any, **_: Any) -> dict[str, Any]:
        tell(Began("clips/c", row["index"], "node"))
        tell(Progress("clips/c", row["index"], 4, 0))
        return {**row, "errors": json.dumps({"clips/c": "bad"} if row["index"] == 0 else {})}

    monkeypatch.setattr(bundle, "step", step)
    assert [row["errors"] for row in run(bundle_of(UNITS))] == ["{}", '{"clips/c": "bad"}', "{}"]
    told = [news for parcel in line.posted for news in parcel]
    assert [(type(news), news.unit) for news in told] == [(kind, u) for u in (2, 0, 1) for kind in (Began, Progress)]
    assert line.posted[0] == told[:1]  # of what a worker takes up the driver knows, should it take its worker down


def test_after_a_fatal_error_nothing_else_of_a_bundle_is_tried(run, monkeypatch) -> None:
    tried = []

    def step(row: dict[str, Any], **_: Any) -> dict[str, Any]:
        tried.append(row["index"])
        return {**row, "fatal": row["index"] == 0}

    monkeypatch.setattr(bundle, "step", step)
    rows = run(bundle_of(UNITS))
    assert [row["fatal"] for row in rows] == [False, True, False]
    assert [row["index"] for row in rows] == [2, 0, 1]
    assert tried == [2, 0]


@pytest.mark.parametrize(
    ("pace", "left", "count"),
    [
        ({}, 10_000, 1),
        ({"clips/a": 0.001}, 10_000, 1),  # of the features nothing is known yet
        ({"clips/a": 0.001, "features/c": 1.0}, 10_000, 1),  # one worker, one a second
        ({"clips/a": 0.4, "features/c": 0.001}, 10_000, 1),
        ({"clips/a": 0.05, "features/c": 0.001}, 10_000, 4),  # 2 workers do 40 a second
        ({"clips/a": 0.001, "features/c": 0.01}, 10_000, 10),
        ({"clips/a": 0.0, "features/c": 0.0}, 10_000, MOST_UNITS),  # all stand
        ({"clips/a": 0.0, "features/c": 0.0}, 40, 5),
        ({"clips/a": 0.0, "features/c": 0.0}, 3, 1),
    ],
)
def test_a_bundle_has_so_many_units_that_the_driver_starts_ten_tasks_a_second(pace, left, count) -> None:
    assert units_a_task(pace, {"clips/a": 2, "features/c": 1}, left=left) == count


def test_units_of_a_large_cluster_go_together_though_each_takes_long() -> None:
    workers = {"clips/a": 1000.0}
    assert units_a_task({"clips/a": 10.0}, workers, left=1_000_000) == 10
    assert units_a_task({"clips/a": 10.0}, workers, left=7_000) == 1
    assert units_a_task({"clips/a": 10.0}, {}, left=1_000_000) == 1


def test_what_a_unit_has_of_its_own_comes_through() -> None:
    unit = replace(UNITS[0], rows_sha256='"quoted", \\ and ü')
    assert rows_of(bundle_of([unit]))[0]["rows_sha256"] == unit.rows_sha256
