"""Evaluation of a stored head on stored features: the numbers of metrics.json, computed again from the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.store import Store
from pipeline.threads import using_torch_threads
from pipeline.training.artifacts import read_checkpoint
from pipeline.training.task import Source, model_folder
from pipeline.training.tasks import open_task, settings_of
from schemas.errors import ReelmillError


def evaluate_head(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    split: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """The results of a head's models on one split (default: the one that metrics.json reports).

    Gives {"product", "split", …}, the rest as `Task.evaluate` says. Raises ReelmillError where the head is not
    trained or stale, UsageError where the split has no items.
    """
    if receipts.standing(store, product, unit) is None:
        known = receipts.load(store, product.path, unit.index)
        state = "is stale: its features or its settings have changed" if known else "is not trained yet"
        raise ReelmillError(f"{product.path} {state}; run `reelmill train` first")
    _, constants = read_checkpoint(store, f"{product.path}/checkpoints")
    with using_torch_threads(threads):
        task = open_task(Source(product, unit, feature_units, store), settings_of(product.settings), constants)
        models: dict[str, nn.Module] = {}
        for place, (name, settings) in enumerate(task.models().items()):
            about, tensors = read_checkpoint(store, f"{product.path}/{model_folder(place)}checkpoints")
            if any(about[key] != value for key, value in task.about().items()):
                raise ReelmillError(f"{product.path}: the checkpoint is of other classes or features; train it again")
            models[name] = task.open_model(settings, seed=0)
            models[name].load_state_dict(task.weights(tensors))
        return {"product": product.path, **task.evaluate(models, split)}
