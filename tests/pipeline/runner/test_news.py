import errno
from dataclasses import replace
from typing import Any

import pytest

from pipeline.meter import Meter
from pipeline.runner import news
from pipeline.runner.news import gathered, pass_on, slowed
from schemas.news import Progress
from schemas.receipt import Receipt


class Line:
    """Keeps what is posted, where a real one has a mailbox."""

    def __init__(self) -> None:
        self.posted: list[tuple[list[Any], bool]] = []

    def post(self, all_news: list[Any], *, wait: bool) -> None:
        self.posted.append((list(all_news), wait))


def took(wall_s: float) -> Progress:
    receipt = Receipt(product="clips/a", unit=0, fingerprint="f", rows={}, items=0, files=())
    return Progress("clips/a", 0, 1, 0, replace(Meter().end(receipt), wall_s=wall_s))


def test_a_listener_that_can_not_show_some_of_it_hears_the_rest() -> None:
    heard: list[str] = []

    def listen(news: str) -> None:
        if news == "b":
            raise OSError(errno.ENOSPC, "the log's disk is full")
        heard.append(news)

    pass_on(["a", "b", "c"], listen)
    assert heard == ["a", "c"]


def test_the_first_piece_goes_at_once_and_the_rest_in_parcels(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(news.time, "monotonic", lambda: now_s[0])
    line = Line()
    with gathered(line) as tell:  # type: ignore[arg-type]
        tell("a")
        tell("b")
        tell("c")
        now_s[0] += 1
        tell("d")
        tell("e")
        assert line.posted == [(["a"], False), (["b", "c", "d"], False)]
    assert line.posted[2:] == [(["e"], True)]


def test_what_was_told_before_an_error_is_posted() -> None:
    line = Line()
    with pytest.raises(ZeroDivisionError), gathered(line) as tell:  # type: ignore[arg-type]
        tell("a")
        tell("b")
        raise ZeroDivisionError
    assert [piece for parcel, _ in line.posted for piece in parcel] == ["a", "b"]
    assert line.posted[-1][1]


def test_a_product_is_as_slow_as_its_slowest_unit_of_late() -> None:
    pace = slowed(None, took(2.0))
    assert pace == 2.0
    for _ in range(50):
        pace = slowed(pace, took(0.1))
    assert pace == pytest.approx(0.11, abs=0.01)
    assert slowed(pace, took(5.0)) == 5.0
    assert slowed(5.0, Progress("clips/a", 0, 1, 0)) == pytest.approx(4.5)  # it stood: no time at all
