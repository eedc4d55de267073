import io

import rich.progress
from rich.console import Console

from jobs import display
from jobs.display import RunDisplay, recipe_differences, stale_units, tight_bounds, unit_weights
from pipeline.graph import Unit
from pipeline.survey import FlowLoss, ProductState
from schemas.news import Began, Progress
from schemas.receipt import Card


def loss(*, saturated: float, is_quantised: bool = True) -> FlowLoss:
    return FlowLoss(3, 20.0, is_quantised, saturated, 0.05, 61.4)


def test_a_bound_that_cuts_too_much_is_one_sentence() -> None:
    (sentence,) = tight_bounds({"flow/a": loss(saturated=0.032), "flow/b": loss(saturated=0.009)})
    assert sentence.startswith("flow/a: 3.2% of the flow lies beyond 20 px and was cut, so the bound looks too small")
    assert "61 px" in sentence


def test_what_is_not_quantised_is_not_cut() -> None:
    assert tight_bounds({"flow/a": loss(saturated=0.5, is_quantised=False)}) == []


def test_what_stands_and_is_made_anew_is_said() -> None:
    states = [ProductState("clips/a", "f", 40, 12, num_stale=39), ProductState("clips/b", "f", 40, 12)]
    (sentence,) = stale_units(states)
    assert sentence.startswith("clips/a: 39 of its units stand for other settings or inputs, or for another cut")


def card(name: str, weights: str, sentences: list[str]) -> Card:
    return Card(
        product=f"features/{name}",
        fingerprint="",
        code_version=2,
        settings={"weights": weights},
        upstream={},
        details={"deviations": sentences},
        versions={},
    )


def test_what_differs_from_a_published_recipe_is_said() -> None:
    cards = [card("a", "i3d.pt", ["one", "two"]), card("b", "random:0", ["three"]), card("c", "c3d.pickle", [])]
    assert recipe_differences(cards) == [
        "features/a differs from the published model's input: one",
        "features/a differs from the published model's input: two",
    ]


UNITS = (Unit(0, 0, 4, "a", 900), Unit(1, 4, 4, "b", 300), Unit(2, 8, 4, "c", 100))


def test_a_unit_weighs_what_its_videos_do_or_its_rows_where_that_is_not_known() -> None:
    assert unit_weights(UNITS) == {0: 900, 1: 300, 2: 100}
    assert unit_weights((*UNITS, Unit(3, 12, 2, "d"))) == {0: 4, 1: 4, 2: 4, 3: 2}


def test_lines_tell_the_rate_and_what_is_left_by_bytes(monkeypatch, capsys) -> None:
    now_s = 0.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now_s)
    bars = rich.progress.Progress(console=Console(file=io.StringIO()), disable=True)
    shown = RunDisplay([ProductState("clips/a", "f", 3, 12)], UNITS, bars, plain=True)
    now_s = 5.0
    shown(Began("clips/a", 0, "n"))
    shown(Progress("clips/a", 1, 4, 0))
    assert capsys.readouterr().err == ""  # a line every 15 s is enough
    now_s = 120.0
    shown(Progress("clips/a", 0, 4, 1))
    shown(Progress("clips/a", 0, 4, 1))  # heard twice
    assert capsys.readouterr().err == "clips/a 8/12 (0.07/s, 10 s left, 1 failed)\n"
    now_s = 121.0
    shown(Progress("clips/a", 2, 4, 0))
    assert capsys.readouterr().err == "clips/a 12/12 (0.10/s, 1 failed)\n"  # the last one at once
