"""Evaluation of a stored head on stored features: the numbers of metrics.json, computed again from the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.store import Store
from pipeline.training.artifacts import folder_of, read_head, settings_of
from pipeline.training.dataset import load_data
from pipeline.training.head import models_of, using_threads
from pipeline.training.loop import predict
from pipeline.training.results import evaluated_on, split_results
from pipeline.training.splits import Split
from schemas.errors import ReelmillError, UsageError


def evaluate_head(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    split: Split | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """The results of a head's models on one split (default: the one that metrics.json reports).

    Gives {"product", "split", "chance", "models": {name: split_results}}, the head itself first. Raises ReelmillError
    where the head is not trained or stale, UsageError where the split has no videos.
    """
    if receipts.standing(store, product, unit) is None:
        known = receipts.load(store, product.path, unit.index)
        state = "is stale: its features or its settings have changed" if known else "is not trained yet"
        raise ReelmillError(f"{product.path} {state}; run `reelmill train` first")
    settings = settings_of(product.settings)
    data = load_data(product, unit, store, settings=settings, feature_units=feature_units)
    split = split or evaluated_on(data)
    if split not in data.present:
        have = ", ".join(data.present)
        raise UsageError(f"{product.path}: no video is in split {split}; this dataset has {have}")
    models: dict[str, Any] = {}
    with using_threads(threads):
        for place, (name, model_settings) in enumerate(models_of(settings).items()):
            stored = read_head(store, f"{product.path}/{folder_of(place)}checkpoints")
            if stored.classes != data.classes:
                raise ReelmillError(f"{product.path}: the checkpoint's classes are not the dataset's; train it again")
            if place == 0:  # all models share one normalisation
                stored.normaliser.apply_(data.sequences.matrix, data.sequences.blocks)
            scores = predict(stored.model, data, data.videos_of(split), batch_size=model_settings.batch_size)
            models[name] = split_results(data, split, scores)
    return {"product": product.path, "split": split, "chance": 1 / len(data.classes), "models": models}
