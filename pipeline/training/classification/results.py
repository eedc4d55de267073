"""How well the models of a head do, as plain values: what metrics.json, predictions.csv and curves.csv hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.classification import (
    confusion_matrix,
    mean_class_accuracy,
    per_class_accuracy,
    ranking,
    top_k_accuracy,
)
from pipeline.receipts import UnitWriter
from pipeline.training.classification.confusion import draw_confusion
from pipeline.training.classification.dataset import LabelledVideos
from pipeline.training.splits import Split, evaluated_on
from pipeline.training.task import Trained, csv_bytes, model_folder

TOP_K = 5
MOST_MISSING = 100  # videos without features that metrics.json names; it counts all

Scores = Mapping[Split, NDArray[np.float32]]  # probabilities (videos of the split, K), in manifest order


def split_results(data: LabelledVideos, split: Split, scores: NDArray[np.float32]) -> dict[str, Any]:
    """The numbers of one model on one split. `top5` is top-k where there are fewer than five classes."""
    labels = data.labels[data.videos_of(split)]
    confusion = confusion_of(data, split, scores)
    accuracies = per_class_accuracy(confusion)
    return {
        "videos": len(labels),
        "annotated_videos": data.num_annotated(split),
        "top1": top_k_accuracy(scores, labels, 1),
        "top5": top_k_accuracy(scores, labels, TOP_K),
        "mean_class_accuracy": mean_class_accuracy(confusion),
        "majority": majority_rate(data, split),
        "per_class": [
            {
                "label_id": label_id,
                "label": name,
                "videos": int(confusion[k].sum()),
                "right": int(confusion[k, k]),
                "accuracy": None if math.isnan(accuracies[k]) else float(accuracies[k]),
            }
            for k, (label_id, name) in enumerate(data.classes)
        ],
    }


def confusion_of(data: LabelledVideos, split: Split, scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """The confusion matrix (K, K) of one model on one split: row = label, column = prediction."""
    return confusion_matrix(data.labels[data.videos_of(split)], ranking(scores)[:, 0], len(data.classes))


def majority_rate(data: LabelledVideos, split: Split) -> float:
    """The accuracy of always answering the class that most training videos have."""
    commonest = np.bincount(data.labels[data.videos_of("train")]).argmax()
    return float((data.labels[data.videos_of(split)] == commonest).mean())


def metrics(data: LabelledVideos, trained: Mapping[str, Trained]) -> dict[str, Any]:
    """What metrics.json holds of the models, the head itself first."""
    found = summary(data, trained, split_results=split_results)
    head = found["models"][next(iter(trained))]["splits"][found["evaluated_on"]]
    chance = 1 / len(data.classes)
    return {
        **{key: head[key] for key in ("top1", "top5", "mean_class_accuracy", "majority")},
        "headline": {"top-1": head["top1"], "mean class accuracy": head["mean_class_accuracy"], "chance": chance},
        "chance": chance,
        "top_k": min(TOP_K, len(data.classes)),
        **found,
    }


Data = TypeVar("Data", bound=LabelledVideos)


def summary(
    data: Data,
    trained: Mapping[str, Trained],
    *,
    split_results: Callable[[Data, Split, NDArray[np.float32]], dict[str, Any]],
) -> dict[str, Any]:
    """What metrics.json holds of any classifier: counts, and the numbers of all models on all splits."""
    models: dict[str, dict[str, Any]] = {
        name: {
            "epochs": len(one.history),
            "best_epoch": one.best_epoch,
            "best_val_loss": one.history[one.best_epoch - 1].val_loss,
            "splits": {part: split_results(data, part, values) for part, values in one.outputs.items()},
        }
        for name, one in trained.items()
    }
    return {
        "evaluated_on": evaluated_on(data.present),
        "num_classes": len(data.classes),
        "num_items": {part: len(data.videos_of(part)) for part in data.present},
        "num_videos": {part: len(data.videos_of(part)) for part in data.present},
        "num_annotated": {part: data.num_annotated(part) for part in data.present},
        "num_clips": {part: int(data.lengths[data.videos_of(part)].sum()) for part in data.present},
        "missing": [f"{one.name}: {one.message}" for one in data.missing[:MOST_MISSING]],
        "models": models,
    }


def predictions_csv(data: LabelledVideos, scores: Scores) -> bytes:
    """One line a video, in manifest order: its label, the predicted one, and the best classes with their scores."""
    k = min(TOP_K, len(data.classes))
    columns = [column for rank in range(1, k + 1) for column in (f"top{rank}", f"score{rank}")]
    lines: dict[int, list[str]] = {}
    for split, values in scores.items():
        for video, order, row in zip(data.videos_of(split), ranking(values), values, strict=True):
            name = data.classes[data.labels[video]][1]
            best = [cell for c in order[:k] for cell in (data.classes[c][1], f"{row[c]:.6f}")]
            clips = str(data.lengths[video])
            lines[int(video)] = [data.video_ids[video], split, clips, name, data.classes[order[0]][1], *best]
    return csv_bytes(["video_id", "split", "clips", "label", "predicted", *columns], [lines[v] for v in sorted(lines)])


def write_results(
    writer: UnitWriter, data: LabelledVideos, trained: Mapping[str, Trained], *, where: str
) -> dict[str, Any]:
    """Write predictions and confusion matrices; returns what metrics.json holds of the models."""
    split = evaluated_on(data.present)
    names = [label for _, label in data.classes]
    for place, (name, one) in enumerate(trained.items()):
        folder = model_folder(place)
        writer.file(f"{folder}predictions.csv").write(predictions_csv(data, one.outputs))
        confusion = confusion_of(data, split, one.outputs[split])
        picture = draw_confusion(confusion, names=names, title=f"{where}: {name} on {split}")
        writer.file(f"{folder}confusion.png").write(picture)
    return metrics(data, trained)
