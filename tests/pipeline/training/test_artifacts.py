"""The files of a head can be read back, and hold no clock, no host and nothing that must be unpickled."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from pipeline.training.artifacts import read_head, settings_of
from pipeline.training.dataset import load_data
from pipeline.training.head import train_head
from pipeline.training.normalise import fit_normaliser


def test_a_checkpoint_stands_alone(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(40)
    dataset.write(videos)
    product = dataset.head()
    train_head(product, dataset.whole, dataset.store, feature_units=dataset.units)
    stored = read_head(dataset.store, "heads/actions/checkpoints")
    assert stored.classes == ((0, "jump"), (1, "run"))
    data = load_data(
        product,
        dataset.whole,
        dataset.store,
        settings=settings_of(product.settings),
        feature_units=dataset.units,
    )
    fitted = fit_normaliser("standard", data.sequences.matrix, data.train_clips)
    np.testing.assert_array_equal(stored.normaliser.mean, fitted.mean)
    np.testing.assert_array_equal(stored.normaliser.std, fitted.std)
    lines = dataset.store.read("heads/actions/predictions.csv").decode().splitlines()
    clips = videos[0].clips.copy()
    stored.normaliser.apply_(clips, (8,))
    mask = torch.ones(1, len(clips), dtype=torch.bool)
    with torch.no_grad():
        probabilities = stored.model.decode(stored.model(torch.from_numpy(clips)[None], mask), mask)
    assert float(lines[1].split(",")[6]) == round(float(probabilities.max()), 6)


def test_what_checkpoints_say(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    dataset.write(make_order_task(40))
    product = dataset.head()
    train_head(product, dataset.whole, dataset.store, feature_units=dataset.units)
    best, last, probe = (
        json.loads(dataset.store.read(f"heads/actions/{name}.json"))
        for name in ("checkpoints/best", "checkpoints/last", "probe/checkpoints/best")
    )
    metrics = json.loads(dataset.store.read("heads/actions/metrics.json"))
    assert best["features"] == {"features/c3d": dataset.features["c3d"].fingerprint}
    assert best["epoch"] == metrics["models"]["lstm"]["best_epoch"]
    assert best["val_loss"] == metrics["models"]["lstm"]["best_val_loss"]
    assert last["epoch"] == metrics["models"]["lstm"]["epochs"]
    assert (best["model"], probe["model"], probe["settings"]["kind"]) == ("lstm", "linear", "linear")
    data = dataset.store.read("heads/actions/checkpoints/best.safetensors")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == set(load(data))  # no metadata
