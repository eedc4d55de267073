"""Evaluation from the stored checkpoint gives the numbers that training wrote."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.graph import Product
from pipeline.training.evaluate import evaluate_head
from pipeline.training.head import train_head
from schemas.errors import ReelmillError, UsageError


def evaluate(dataset: Any, product: Product, **options: Any) -> dict[str, Any]:
    return evaluate_head(product, dataset.whole, dataset.store, feature_units=dataset.units, **options)


@pytest.mark.parametrize("settings", [{}, {"normalise": "l2"}, {"output": "many-to-many"}, {"kind": "linear"}])
def test_it_gives_the_numbers_of_metrics_json(
    dataset: Any, make_order_task: Callable[..., Any], settings: dict[str, Any]
) -> None:
    dataset.write(make_order_task(60))
    product = dataset.head(**settings)
    train_head(product, dataset.whole, dataset.store, feature_units=dataset.units)
    metrics = json.loads(dataset.store.read("heads/actions/metrics.json"))
    for split in ("train", "val", "test"):
        found = evaluate(dataset, product, split=split)
        assert found["split"] == split
        assert found["chance"] == metrics["chance"]
        assert found["models"] == {name: model["splits"][split] for name, model in metrics["models"].items()}
    assert evaluate(dataset, product)["split"] == metrics["evaluated_on"] == "test"


def test_what_can_not_be_evaluated_is_one_sentence(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(24, splits=("train", "val")))
    with pytest.raises(ReelmillError, match="heads/actions is not trained yet; run `reelmill train` first"):
        evaluate(dataset, dataset.head())
    train_head(dataset.head(), dataset.whole, dataset.store, feature_units=dataset.units)
    assert evaluate(dataset, dataset.head())["split"] == "val"  # this source has no test videos
    with pytest.raises(UsageError, match="no video is in split test; this dataset has train, val"):
        evaluate(dataset, dataset.head(), split="test")
    with pytest.raises(ReelmillError, match="heads/actions is stale: its features or its settings have changed"):
        evaluate(dataset, dataset.head(epochs=5))
