"""The files of a trained head, and how a model is read back from them.

metrics.json  curves.png  confusion.png
checkpoints/best.safetensors, best.json, last.safetensors, last.json     curves.csv  predictions.csv
probe/…                                                  the same four and two of the linear probe
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save

from pipeline.graph import Product
from pipeline.heads import SequenceHead, build
from pipeline.receipts import UnitWriter
from pipeline.store import Store
from pipeline.training.checkpoint import Progress, Weights, weights_of
from pipeline.training.dataset import HeadData
from pipeline.training.normalise import Normaliser
from pipeline.training.plots import draw_confusion, draw_curves
from pipeline.training.results import Scores, confusion_of, curves_csv, evaluated_on, metrics, predictions_csv
from schemas.config import Head, HeadBase

_HEAD: TypeAdapter[Any] = TypeAdapter(Head)


@dataclass(frozen=True)
class Trained:
    """One trained model: the head itself, or the probe beside it."""

    settings: HeadBase
    progress: Progress
    scores: Scores  # of the best epoch's weights


@dataclass(frozen=True)
class StoredHead:
    """A model read back from a checkpoint."""

    model: SequenceHead
    normaliser: Normaliser
    classes: tuple[tuple[int, str], ...]


def settings_of(values: Mapping[str, Any]) -> HeadBase:
    """The config section of a head from its plain JSON values."""
    settings: HeadBase = _HEAD.validate_python(dict(values))
    return settings


def folder_of(place: int) -> str:
    """Where the files of a head's models are: the head's own at the top, the probe's below `probe/`."""
    return "" if place == 0 else "probe/"


def write_artifacts(
    writer: UnitWriter, product: Product, data: HeadData, normaliser: Normaliser, trained: Mapping[str, Trained]
) -> None:
    """Write all files of a head; `trained` has the head itself first."""
    histories = {name: one.progress.history for name, one in trained.items()}
    scores = {name: one.scores for name, one in trained.items()}
    settings = next(iter(trained.values())).settings
    numbers = metrics(data, settings=settings, histories=histories, scores=scores)
    writer.file("metrics.json").write(_json({"product": product.path, **numbers}))
    writer.file("curves.png").write(draw_curves(histories, chance=numbers["chance"], title=product.path))
    split = evaluated_on(data)
    for place, (name, one) in enumerate(trained.items()):
        folder = folder_of(place)
        _write_checkpoints(writer, f"{folder}checkpoints", product, data, normaliser, name, one)
        writer.file(f"{folder}curves.csv").write(curves_csv(one.progress.history).encode())
        writer.file(f"{folder}predictions.csv").write(predictions_csv(data, one.scores).encode())
        confusion = confusion_of(data, split, one.scores[split])
        names = [label for _, label in data.classes]
        picture = draw_confusion(confusion, names=names, title=f"{product.path}: {name} on {split}")
        writer.file(f"{folder}confusion.png").write(picture)


def _write_checkpoints(
    writer: UnitWriter,
    folder: str,
    product: Product,
    data: HeadData,
    normaliser: Normaliser,
    name: str,
    one: Trained,
) -> None:
    progress = one.progress
    kept: dict[str, tuple[int, Weights]] = {
        "best": (progress.best_epoch, progress.best),
        "last": (progress.epoch, weights_of(progress.model)),
    }
    for which, (epoch, weights) in kept.items():
        tensors = {f"model.{key}": tensor for key, tensor in weights.items()}
        tensors["normaliser.mean"] = torch.from_numpy(normaliser.mean)
        tensors["normaliser.std"] = torch.from_numpy(normaliser.std)
        about = {
            "model": name,
            "settings": one.settings.model_dump(mode="json"),
            "features": dict(product.upstream),
            "dims": list(data.sequences.blocks),
            "classes": [{"label_id": label_id, "label": label} for label_id, label in data.classes],
            "epoch": epoch,
            "val_loss": progress.history[epoch - 1].val_loss,
        }
        # no metadata inside the safetensors: the order of its keys is not fixed
        writer.file(f"{folder}/{which}.safetensors").write(save(tensors))
        writer.file(f"{folder}/{which}.json").write(_json(about))


def read_head(store: Store, folder: str) -> StoredHead:
    """The model of the best epoch, from a folder such as `heads/actions/checkpoints`."""
    about = json.loads(store.read(f"{folder}/best.json"))
    tensors = load(store.read(f"{folder}/best.safetensors"))
    settings = settings_of(about["settings"])
    classes = tuple((entry["label_id"], entry["label"]) for entry in about["classes"])
    model = build(settings, blocks=tuple(about["dims"]), num_classes=len(classes), seed=0)
    assert isinstance(model, SequenceHead)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    mean, std = (tensors[f"normaliser.{name}"].numpy().astype(np.float32) for name in ("mean", "std"))
    return StoredHead(model, Normaliser(settings.normalise, mean, std), classes)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
