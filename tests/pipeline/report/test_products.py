"""What is said of features; the sheets of clips and flow are tests/jobs/test_report.py's, of a dataset really made."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import receipts
from pipeline.graph import Plan, Product
from pipeline.report.figures import Figures
from pipeline.report.products import NOTHING, clips_section, features_section, flow_section
from pipeline.store import Store
from pipeline.survey import FlowLoss
from schemas.receipt import Card

SHA256 = "0123456789abcdef" * 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def plan(*products: tuple[Any, str]) -> Plan:
    return Plan(tuple(Product(kind, name, {}, {}, 1) for kind, name in products), ())


def card(asked: str, **details: Any) -> Card:
    found: dict[str, Any] = {"model": "c3d", "layer": "fc6", "dim": 4096, "weights": {"sha256": SHA256}}
    found |= {"precision": {"used": "bf16", "why": "this CPU has amx"}, **details}
    kept: dict[str, Any] = {"product": "features/f", "fingerprint": "f", "code_version": 1, "upstream": {}}
    return Card(**kept, settings={"weights": asked}, details=found, versions={})


def test_how_features_were_made(store) -> None:
    deviations = ["frames are 100 px high", "16 frames enter at once"]
    receipts.write_card(store, card("w/c3d.pickle", deviations=deviations))
    table, part = features_section(store, plan(("features", "f"))).parts
    assert table.tables[0].rows == [
        ("features/f", "c3d", "sha256 0123456789ab", "fc6", "4096", "bf16 (this CPU has amx)")
    ]
    assert part.sentences == [f"Differs from the recipe: {each}." for each in deviations]


def test_random_weights_say_so_and_maps_have_a_shape(store) -> None:
    receipts.write_card(store, card("random:7", maps={"shape": [32, 4, 7, 7]}, precision={"used": "fp32"}))
    (part,) = features_section(store, plan(("features", "f"))).parts
    assert part.tables[0].rows[0][2:] == ("random:7, as asked", "fc6", "32 × 4 × 7 × 7", "fp32")


@pytest.mark.parametrize("details", [{"maps": 3}, {"weights": [1]}, {"precision": "much"}, {"deviations": 4}])
def test_a_damaged_card_is_a_sentence(store, details) -> None:
    receipts.write_card(store, card("w/c3d.pickle", **details))
    (part,) = features_section(store, plan(("features", "f"))).parts
    assert part.sentences[0].startswith("features/f/_card.json is damaged")


def test_nothing_was_made(store) -> None:
    products = plan(("clips", "c"), ("flow", "t"), ("features", "f"))
    for section in (
        clips_section(store, products, [], Figures()),
        flow_section(store, products, [], Figures(), losses={}),
        features_section(store, products),
    ):
        assert [part.sentences for part in section.parts] == [[NOTHING]]


def test_what_the_bound_lost(store) -> None:
    loss = FlowLoss(4, bound_px=20.0, is_quantised=True, saturated=0.25, rmse_px=0.0512, max_abs_px=31.0)
    *_, table, doubt = flow_section(
        store, plan(("flow", "t")), [], Figures(), losses={"flow/t": loss}, doubts=["Too small."]
    ).parts
    assert table.tables[0].rows == [("0.051 px", "25.00%", "20 px", "31.0 px", "4")]
    assert doubt.sentences == ["Too small."]


def test_a_config_without_them(store) -> None:
    assert features_section(store, plan()).parts[0].sentences == ["The config has no features."]
