"""Cards before units, on a local Ray of their own."""

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CHAIN = {"clips/a": [], "features/c": ["clips/a"], "flow/f": ["clips/a"], "features/f": ["flow/f"]}


def cards(folder) -> set[str]:
    return {str(card.parent.relative_to(folder)) for card in folder.glob("*/*/_card.json")}


def test_all_cards_are_there_before_the_first_unit(fake_run, tmp_path) -> None:
    run = fake_run(CHAIN, [1, 1], {})
    assert run.errors == {}
    assert cards(tmp_path / "out") == set(CHAIN)


def test_of_a_product_whose_card_cannot_be_made_nothing_is_made_and_the_run_says_why(fake_run, tmp_path) -> None:
    run = fake_run(CHAIN, [1, 1], {"flow/f": {"no_card": "there is no such backend"}})
    assert run.errors == {-1: "flow/f: there is no such backend"}
    assert run.log == []  # no unit of any product
    # one that reads the missing card has none either; one beside it may be done by then
    assert {"clips/a"} <= cards(tmp_path / "out") <= {"clips/a", "features/c"}
