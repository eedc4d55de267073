import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.graph import Plan, Product
from pipeline.report.figures import Figures
from pipeline.report.heads import heads_section
from pipeline.report.page import Part
from pipeline.store import Store
from pipeline.survey import ProductState, Standing

RESULT = {"top1": 0.5, "top5": 1.0, "mean_class_accuracy": 0.25, "majority": 0.4}
CLASSIFIER = {
    **{"top1": 0.5, "chance": 0.25, "evaluated_on": "test", "num_items": {"test": 8}, "headline": {"top-1": 0.5}},
    "models": {"lstm": {"splits": {"test": RESULT}}, "linear": {"splits": {"test": {**RESULT, "top1": 0.75}}}},
}
TEMPORAL = {
    **{"evaluated_on": "val", "num_items": {"val": 5}, "protocol": "activitynet"},
    "headline": {"mAP@0.5": 0.25, "coverage": "5 of 5 videos", "segments": 7},
}


def part_of(store: Store, *, pending: bool = False, figures: Figures | None = None) -> Part:
    plan = Plan((Product("heads", "actions", {}, {}, 1),), ())
    state = ProductState("heads/actions", "f", 1, 8, {} if pending else {0: Standing((8, 0, 0, 0), 1, 1)})
    return heads_section(store, plan, {"heads/actions": state}, figures or Figures()).parts[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def put(store: Store, metrics: Any) -> None:
    store.put("heads/actions/metrics.json", json.dumps(metrics).encode())


def test_a_classifier_beside_chance(store) -> None:
    put(store, CLASSIFIER)
    part = part_of(store)
    assert part.sentences == ["Measured on 8 items of the split test."]
    (table,) = part.tables
    assert table.columns[:4] == ["model", "top-1", "chance", "majority class"]
    assert table.rows[0] == ["lstm", "50.0 %", "25.0 %", "40.0 %", "25.0 %", "100.0 %"]
    assert table.rows[1][:2] == ["linear", "75.0 %"]


def test_others_by_their_headline(store) -> None:
    put(store, TEMPORAL)
    part = part_of(store)
    assert part.sentences == ["Measured on 5 items of the split val, by the rules of activitynet."]
    assert part.tables[0].rows == [["25.0 %", "5 of 5 videos", "7"]]


def test_one_that_is_not_trained_and_one_of_earlier_settings(store) -> None:
    assert part_of(store, pending=True).sentences == ["Not trained so far."]
    put(store, TEMPORAL)
    assert "of earlier ones" in part_of(store, pending=True).sentences[0]


@pytest.mark.parametrize("metrics", [[], {}, 3, {**CLASSIFIER, "models": 3}, {**TEMPORAL, "headline": []}])
def test_damaged_metrics_are_a_sentence(store, metrics) -> None:
    put(store, metrics)
    assert part_of(store).sentences == ["metrics.json is damaged; train the head again."]


def test_metrics_that_nest_without_end_are_a_sentence(store) -> None:
    store.put("heads/actions/metrics.json", b"[" * 100_000)
    assert part_of(store).sentences == ["metrics.json is damaged; train the head again."]


def test_what_it_drew_in_the_order_of_reading(store) -> None:
    put(store, TEMPORAL)
    png = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    for name in ("timeline.png", "curves.png", "other.png"):
        store.put(f"heads/actions/{name}", png)
    store.put("heads/actions/boxes.png", b"no picture")
    part = part_of(store)
    assert [picture.caption for picture in part.pictures] == ["curves.png", "timeline.png"]
    assert part.sentences[-1] == "boxes.png: no picture: it is no picture."
    assert part_of(store, figures=Figures(most=1)).sentences[-1] == "2 pictures are left out: the page has enough."
