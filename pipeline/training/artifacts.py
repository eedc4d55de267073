"""The files that every trained head has, and how a checkpoint is read back.

metrics.json  curves.png
checkpoints/best.safetensors, best.json, last.safetensors, last.json     curves.csv
probe/…                                                  the same of a probe, where there is one

Predictions and pictures of what was found are the task's own, beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from pipeline.receipts import UnitWriter
from pipeline.store import Store
from pipeline.training.checkpoint import Weights
from pipeline.training.curves import curves_csv, draw_curves
from pipeline.training.task import Task, Trained, model_folder
from schemas.errors import ReelmillError


def write_artifacts(writer: UnitWriter, product: str, task: Task[Any], trained: Mapping[str, Trained]) -> None:
    """Write all files of a head; `trained` has the head itself first."""
    numbers = {
        "product": product,
        **task.write(writer, trained),
        "selected_on": "val",
        "seed": task.settings.seed,
        "config": task.settings.model_dump(mode="json", by_alias=True),
    }
    writer.file("metrics.json").write(_json(numbers))
    picture = draw_curves(
        {name: (one.history, one.best_epoch) for name, one in trained.items()},
        loss_name=task.loss_name,
        score_name=task.score_name,
        guess=task.guess,
        title=product,
    )
    writer.file("curves.png").write(picture)
    for place, (name, one) in enumerate(trained.items()):
        folder = model_folder(place)
        _write_checkpoints(writer, f"{folder}checkpoints", task, name, one)
        writer.file(f"{folder}curves.csv").write(curves_csv(one.history, score_name=task.score_name))


def _write_checkpoints(writer: UnitWriter, folder: str, task: Task[Any], name: str, one: Trained) -> None:
    for which, epoch, weights in (("best", one.best_epoch, one.best), ("last", len(one.history), one.last)):
        line = one.history[epoch - 1]
        about = {
            "model": name,
            "settings": one.settings.model_dump(mode="json", by_alias=True),
            **task.about(),
            "epoch": epoch,
            "val_loss": line.val_loss,
            f"val_{task.score_name}": line.val_score,
        }
        writer.file(f"{folder}/{which}.safetensors").write(task.checkpoint(weights))
        writer.file(f"{folder}/{which}.json").write(_json(about))


def read_checkpoint(store: Store, folder: str) -> tuple[dict[str, Any], Weights]:
    """(best.json, tensors) of the best epoch, from a folder such as `heads/actions/checkpoints`.

    Raises ReelmillError where one of the two is damaged.
    """
    path = f"{folder}/best.json"
    try:
        about: dict[str, Any] = json.loads(store.read(path))
        path = f"{folder}/best.safetensors"
        return about, load(store.read(path))
    except (SafetensorError, ValueError) as error:
        raise ReelmillError(
            f"{store.uri}/{path} is damaged ({error}): delete the head's folder and train it again"
        ) from None


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
