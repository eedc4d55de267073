import sys
import threading
import time

from pipeline.graph import Unit
from pipeline.runner.rounds import Rounds
from schemas.news import Began, News, Progress

UNITS = [Unit(index, index, 1, f"{index}") for index in (3, 1, 2, 0)]


def indices(units: list[Unit]) -> list[int]:
    return [unit.index for unit in units]


def began(rounds: Rounds, *units: int) -> None:
    listener = rounds.listening(lambda news: None)
    for unit in units:
        listener(Began("clips/a", unit, "node"))


def made(rounds: Rounds, unit: int) -> None:
    """It went through the last product, which is heard, and came out of the chain."""
    rounds.listening(lambda news: None)(Progress("clips/a", unit, 1, 0))
    rounds.ended(unit)


def test_one_round_where_nothing_is_lost() -> None:
    rounds, heard = Rounds(UNITS), list[News]()
    assert indices(rounds.next()) == [3, 1, 2, 0]
    rounds.listening(heard.append)(Began("clips/a", 3, "node"))
    assert heard == [Began("clips/a", 3, "node")]
    for unit in UNITS:
        rounds.ended(unit.index)
    assert rounds.next() == []
    assert rounds.given_up() == []


def test_a_unit_that_was_lost_comes_again_and_is_named_when_it_is_lost_again() -> None:
    rounds = Rounds(UNITS)
    rounds.next()
    began(rounds, 0, 1, 2, 3)
    for unit in (0, 2, 3):
        rounds.ended(unit)
    assert indices(rounds.next()) == [1]
    began(rounds, 1)
    assert rounds.next() == []
    assert rounds.given_up() == [(1, "clips/a unit 000001: its worker died every time it was tried")]


def test_a_unit_that_a_flaky_node_took_down_is_made_after_all() -> None:
    rounds = Rounds(UNITS)
    rounds.next()
    for unit in (0, 2):
        rounds.ended(unit)
    assert indices(rounds.next()) == [3, 1]
    for unit in (3, 1):
        rounds.ended(unit)
    assert rounds.next() == []
    assert rounds.given_up() == []


def test_units_that_were_lost_in_a_bundle_with_the_culprit_go_alone_and_lose_no_chance() -> None:
    rounds = Rounds(UNITS)
    rounds.next()
    assert rounds.bundles
    began(rounds, 1)
    rounds.ended(3)  # 1, 2 and 0 were one bundle
    assert indices(rounds.next()) == [2, 0, 1]
    assert not rounds.bundles
    began(rounds, 2, 1)  # alone, a flaky node takes 2 down too
    rounds.ended(0)
    assert indices(rounds.next()) == [2]
    rounds.ended(2)
    assert rounds.next() == []
    assert [unit for unit, _ in rounds.given_up()] == [1]


def test_a_round_that_broke_off_blames_only_what_was_tried_three_times() -> None:
    rounds = Rounds(UNITS)
    rounds.next()
    began(rounds, 3, 1, 3, 3, 2, 2, 2, 0)
    made(rounds, 1)
    rounds.listening(lambda news: None)(Progress("clips/a", 2, 1, 0))  # at the third attempt; its row was cut off
    rounds.broke_off("too many")  # while 0 was under way
    assert indices(rounds.next()) == [2, 0, 3]
    began(rounds, 2, 0, 3, 3, 3)
    made(rounds, 2)
    made(rounds, 0)
    rounds.broke_off("too many")  # because of 3, now last
    assert rounds.next() == []
    assert rounds.given_up() == [(3, "clips/a unit 000003: its worker died every time it was tried")]


def test_rounds_that_get_nowhere_end_the_run_and_say_why() -> None:
    rounds = Rounds(UNITS)
    rounds.next()
    began(rounds, 3, 3, 1, 1, 3, 1)
    rounds.broke_off("out of luck")
    assert rounds.next() == []
    found = dict(rounds.given_up())
    assert set(found) == {3, 1, -1}
    assert found[-1] == "2 more units were not made: workers died again and again (out of luck)"


def test_a_round_that_loses_more_than_it_makes_is_the_last() -> None:
    rounds = Rounds(UNITS, lost_at_once=2)
    rounds.next()
    began(rounds, 3, 1, 1, 1, 2)
    made(rounds, 3)
    rounds.broke_off("a broken library")
    assert rounds.next() == []
    found = dict(rounds.given_up())
    assert found[1] == "clips/a unit 000001: its worker died every time it was tried (a broken library)"
    assert set(found) == {1, -1}


def test_a_small_run_that_broke_off_goes_on_as_long_as_it_gets_somewhere() -> None:
    rounds = Rounds(UNITS, lost_at_once=32)
    rounds.next()
    made(rounds, 3)
    rounds.broke_off("a node went away")
    assert indices(rounds.next()) == [1, 2, 0]
    made(rounds, 1)
    made(rounds, 2)
    rounds.broke_off("a node went away")
    assert indices(rounds.next()) == [0]
    rounds.broke_off("a node went away")
    assert rounds.next() == []
    assert rounds.given_up() == [(-1, "1 more units were not made: workers died again and again (a node went away)")]


def test_news_may_come_while_a_round_is_closed() -> None:
    """Workers that were lost to the driver may still speak; what they say comes in another thread."""
    rounds, stop, said = Rounds(UNITS), threading.Event(), [0]

    def talk() -> None:
        listener = rounds.listening(lambda news: None)
        while not stop.is_set():
            listener(Began("clips/a", said[0], "node"))
            said[0] += 1

    thread = threading.Thread(target=talk, daemon=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for count in range(1, 21):
            while said[0] < 2000 * count:
                time.sleep(0.001)
            rounds.next()
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()
