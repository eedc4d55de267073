"""The files of a head can be read back, and hold no clock, no host and nothing that must be unpickled."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from pipeline.heads import SequenceHead, build
from pipeline.training.artifacts import read_checkpoint
from pipeline.training.classification.dataset import load_data
from pipeline.training.head import train_head
from pipeline.training.normalise import Normaliser, fit_normaliser
from pipeline.training.tasks import settings_of


def test_a_checkpoint_stands_alone(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(40)
    dataset.write(videos)
    product = dataset.head()
    train_head(product, dataset.whole, dataset.store, feature_units=dataset.units)
    about, tensors = read_checkpoint(dataset.store, "heads/actions/checkpoints")
    assert about["classes"] == [{"label_id": 0, "label": "jump"}, {"label_id": 1, "label": "run"}]
    settings = settings_of(about["settings"])
    data = load_data(dataset.source(product), settings)  # type: ignore[arg-type]
    fitted = fit_normaliser("standard", data.sequences.matrix, data.train_clips)
    normaliser = Normaliser.from_tensors("standard", tensors)
    np.testing.assert_array_equal(normaliser.mean, fitted.mean)
    np.testing.assert_array_equal(normaliser.std, fitted.std)
    model = build(settings, blocks=tuple(about["dims"]), num_classes=2, seed=9)
    assert isinstance(model, SequenceHead)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    lines = dataset.store.read("heads/actions/predictions.csv").decode().splitlines()
    clips = videos[0].clips.copy()
    normaliser.apply_(clips, (8,))
    mask = torch.ones(1, len(clips), dtype=torch.bool)
    with torch.no_grad():
        probabilities = model.eval().decode(model(torch.from_numpy(clips)[None], mask), mask)
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
