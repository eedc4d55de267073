"""Temporal localization: heads that find labelled segments in sequences of features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.annotations.activitynet import write_predictions
from pipeline.heads import build
from pipeline.heads.temporal import StepDetections, TemporalHead
from pipeline.receipts import UnitWriter
from pipeline.training.checkpoint import Weights
from pipeline.training.frames import FrameReader
from pipeline.training.normalise import Normaliser, fit_normaliser
from pipeline.training.splits import chosen_split, evaluated_on
from pipeline.training.task import Share, Source, Task, Trained
from pipeline.training.temporal.batches import Batch, eval_batches, train_batches
from pipeline.training.temporal.dataset import NO_SPLIT, TemporalData, load_temporal
from pipeline.training.temporal.results import (
    headline,
    in_seconds,
    middle,
    of_video,
    precision_of,
    split_results,
    truth_of,
    video_scores,
)
from pipeline.training.temporal.timeline import draw_timeline, make_panel, spread
from schemas.annotation import SegmentTable
from schemas.heads import HeadBase, TemporalSettings

Outputs = dict[str, SegmentTable]  # split -> predictions


class TemporalTask(Task[Batch]):
    noun = "videos"
    score_name = "average mAP"
    select_by = "score"
    loss_name = "loss"

    def __init__(self, source: Source, settings: TemporalSettings, constants: Weights | None = None) -> None:
        self.settings: TemporalSettings = settings
        self.product = source.product
        self.store = source.store
        data = load_temporal(source, settings)
        self.ledger = data.ledger
        self.num_train = len(data.videos_of("train"))
        if constants is None:
            self.normaliser = fit_normaliser(settings.normalise, data.matrix, data.train_steps)
        else:
            self.normaliser = Normaliser.from_tensors(settings.normalise, constants)
        self.normaliser.apply_(data.matrix, data.blocks)
        self.data: TemporalData = data

    @staticmethod
    def describe(settings: HeadBase) -> dict[str, Any]:
        assert isinstance(settings, TemporalSettings)
        return {
            "task": "labelled segments in time",
            "steps": "step k of a video is the middle of its k-th window of features",
            "metric": f"mAP by the rule of {settings.protocol}, tIoU {', '.join(f'{t:g}' for t in settings.tiou)}",
            "selection": "the epoch of the highest average mAP on validation, of equals the one of the lowest loss",
        }

    def identity(self) -> str:
        ids = hashlib.sha256("\n".join(self.data.video_ids).encode())
        for array in (self.data.offsets, np.char.encode(self.data.splits)):
            ids.update(array.tobytes())
        return ids.hexdigest()

    # ------------------------------------------------------------ training

    def open_model(self, settings: HeadBase, *, seed: int) -> TemporalHead:
        model = build(settings, blocks=self.data.blocks, num_classes=len(self.data.classes), seed=seed)
        assert isinstance(model, TemporalHead)
        return model

    def train_batches(self, settings: HeadBase, model: nn.Module, share: Share) -> Iterator[Batch]:
        assert isinstance(model, TemporalHead)
        return train_batches(self.data, share, batch_size=settings.batch_size, num_noise=model.num_noise)

    def losses(self, model: nn.Module, forward: Callable[..., Any], batch: Batch) -> Tensor:
        assert isinstance(model, TemporalHead)
        return model.loss(forward(batch.x, batch.mask, batch.noise), batch.targets, batch.mask)

    def validate(self, settings: HeadBase, model: nn.Module) -> tuple[float, float]:
        predictions, loss = self._predict(settings, model, "val")
        if not np.isfinite(loss):
            return float("nan"), 0.0
        return loss, precision_of(self.data, "val", predictions, self.settings).average_map

    # ------------------------------------------------------------ what comes out

    def _predict(self, settings: HeadBase, model: nn.Module, split: str) -> tuple[SegmentTable, float]:
        """Detections of the videos of a split, and their mean loss."""
        assert isinstance(model, TemporalHead)
        model.eval()
        videos: NDArray[np.int64] = self.data.videos_of(split)
        found: dict[int, StepDetections] = {}
        loss_sum = 0.0
        with torch.inference_mode():
            for batch in eval_batches(self.data, videos, batch_size=settings.batch_size):
                output = model(batch.x, batch.mask)
                loss_sum += float(model.loss(output, batch.targets, batch.mask).sum())
                if not np.isfinite(loss_sum):
                    break  # diverged: there is nothing to decode
                found |= zip(batch.videos.tolist(), model.decode(output, batch.mask), strict=True)
        return in_seconds(self.data, found, nms=self.settings.nms), loss_sum / max(len(videos), 1)

    def outputs(self, settings: HeadBase, model: nn.Module) -> Outputs:
        present = [split for split in ("val", "test", NO_SPLIT) if split in self.data.splits]
        return {split: self._predict(settings, model, split)[0] for split in present}

    def about(self) -> dict[str, Any]:
        return {
            "features": dict(self.product.upstream),
            "dims": list(self.data.blocks),
            "step_s": self.data.grid.step_s,
            "window_s": self.data.grid.window_s,
            "classes": list(self.data.classes),
        }

    def constants(self) -> Weights:
        return self.normaliser.tensors()

    @property
    def evaluated_on(self) -> str:
        return evaluated_on(self.data.splits)

    def write(self, writer: UnitWriter, trained: Mapping[str, Trained]) -> dict[str, Any]:
        (one,) = trained.values()
        outputs: Outputs = one.outputs
        for split, predictions in outputs.items():
            names = [self.data.names[video] for video in self.data.videos_of(split)]
            writer.file(f"predictions_{split}.json").write(write_predictions(predictions, videos=names))
        writer.file("timeline.png").write(self._draw(outputs[self.evaluated_on]))
        splits = {
            split: split_results(self.data, split, table, self.settings)
            for split, table in outputs.items()
            if split != NO_SPLIT
        }
        return {
            "evaluated_on": self.evaluated_on,
            "headline": headline(splits[self.evaluated_on], self.settings.tiou),
            "protocol": self.settings.protocol,
            "num_items": {split: len(self.data.videos_of(split)) for split in sorted(set(self.data.splits))},
            "num_classes": len(self.data.classes),
            "epochs": len(one.history),
            "best_epoch": one.best_epoch,
            "annotations": dict(self.data.facts),
            "missing": [f"{missing.name}: {missing.message}" for missing in self.data.missing],
            "splits": splits,
        }

    def _draw(self, predictions: SegmentTable) -> bytes:
        """What was found in some of the videos that are evaluated: the best, the worst and some between."""
        data, split = self.data, self.evaluated_on
        scores, truth = video_scores(data, split, predictions, self.settings), truth_of(data, split)
        places = {name: place for place, name in enumerate(data.names)}
        panels = [
            make_panel(
                name,
                of_video(truth, name),
                of_video(predictions, name),
                score=scores[name],
                covered_s=(float(data.covered_s[places[name], 0]), float(data.covered_s[places[name], 1])),
            )
            for name in spread(scores)
        ]
        reader = FrameReader(self.store, next(iter(self.product.upstream)))
        return draw_timeline(
            panels,
            classes=data.classes,
            frame_at=lambda name, second: reader.at(data.video_ids[places[name]], second),
            tiou=middle(self.settings.tiou),
            title=f"{self.product.path}: what was found in videos of split {split}, from the best to the worst",
        )

    def evaluate(self, models: Mapping[str, nn.Module], split: str | None) -> dict[str, Any]:
        chosen = chosen_split(self.data.splits, split, noun="video", where=self.product.path)
        ((name, settings),) = self.models().items()
        predictions, _ = self._predict(settings, models[name], chosen)
        results = split_results(self.data, chosen, predictions, self.settings)
        return {"split": chosen, "headline": headline(results, self.settings.tiou), **results}
