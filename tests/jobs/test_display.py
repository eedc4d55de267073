from jobs.display import recipe_differences, tight_bounds
from pipeline.survey import FlowLoss
from schemas.receipt import Card


def loss(*, saturated: float, is_quantised: bool = True) -> FlowLoss:
    return FlowLoss(3, 20.0, is_quantised, saturated, 0.05, 61.4)


def test_a_bound_that_cuts_too_much_is_one_sentence() -> None:
    (sentence,) = tight_bounds({"flow/a": loss(saturated=0.032), "flow/b": loss(saturated=0.009)})
    assert sentence.startswith("flow/a: 3.2% of the flow lies beyond 20 px and was cut, so the bound looks too small")
    assert "61 px" in sentence


def test_what_is_not_quantised_is_not_cut() -> None:
    assert tight_bounds({"flow/a": loss(saturated=0.5, is_quantised=False)}) == []


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
