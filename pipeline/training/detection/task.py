"""Spatio-temporal detection: a head that finds actors and their actions in keyframes, on dense maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.annotations.ava import write_csv
from pipeline.annotations.tube_json import write_tubes
from pipeline.heads import build
from pipeline.heads.roi import KeyDetections, RoIDetector
from pipeline.receipts import UnitWriter
from pipeline.training.checkpoint import Weights
from pipeline.training.detection.batches import Batch, eval_batches, fit_channels, train_batches
from pipeline.training.detection.dataset import NO_SPLIT, DetectionData, load_detection
from pipeline.training.detection.pictures import draw_boxes
from pipeline.training.detection.results import (
    Found,
    box_table,
    headline,
    key_precision,
    linked,
    split_results,
)
from pipeline.training.detection.strips import draw_tubes
from pipeline.training.frames import FrameReader
from pipeline.training.normalise import Normaliser
from pipeline.training.splits import chosen_split, evaluated_on
from pipeline.training.task import Share, Source, Task, Trained
from schemas.annotation import TubeSet
from schemas.annotation_files import AVAAnnotations
from schemas.heads import HeadBase, RoIHead


class Output(NamedTuple):
    """What was found in one split."""

    found: Found
    tubes: TubeSet


class DetectionTask(Task[Batch]):
    noun = "keyframes"
    score_name = "frame-mAP"
    select_by = "score"
    loss_name = "loss"
    wants_gpu = True

    def __init__(self, source: Source, settings: RoIHead, constants: Weights | None = None) -> None:
        self.settings: RoIHead = settings
        self.product, self.store = source.product, source.store
        self.data: DetectionData = load_detection(source, settings)
        self.ledger = self.data.ledger
        self.num_train = len(self.data.keys_of("train"))
        if constants is None:
            self.normaliser = fit_channels(settings.normalise, self.store, self.data)
        else:
            self.normaliser = Normaliser.from_tensors(settings.normalise, constants)

    @staticmethod
    def describe(settings: HeadBase) -> dict[str, Any]:
        assert isinstance(settings, RoIHead)
        boxes = {"learned": "learned from the maps", "truth": "the annotated ones"}
        return {
            "task": "boxes of actors and their actions at keyframes, linked over time into tubes",
            "keyframes": "AVA's annotated seconds; of tubes, and without annotation, the centres of the maps' windows",
            "boxes": boxes.get(settings.proposals, "those of a csv"),
            "metric": f"frame-mAP on keyframes by AVA's rule, IoU {settings.iou:g}, without a limit of boxes a frame",
            "selection": "the epoch of the highest frame-mAP on validation, of equals the one of the lowest loss",
        }

    def identity(self) -> str:
        data = self.data
        ids = hashlib.sha256("\n".join([*data.maps.keys, *data.names, *map(str, data.classes)]).encode())
        for array in (data.keys.video, data.keys.second, data.keys.row, np.char.encode(data.splits), data.truth.box):
            ids.update(np.ascontiguousarray(array).tobytes())
        return ids.hexdigest()

    # ------------------------------------------------------------ training

    def open_model(self, settings: HeadBase, *, seed: int) -> RoIDetector:
        model = build(settings, blocks=self.data.maps.blocks, num_classes=len(self.data.classes), seed=seed)
        assert isinstance(model, RoIDetector)
        return model

    def train_batches(self, settings: HeadBase, model: nn.Module, share: Share) -> Iterator[Batch]:
        return train_batches(self.store, self.data, self.normaliser, share, batch_size=settings.batch_size)

    def losses(self, model: nn.Module, forward: Callable[..., Any], batch: Batch) -> Tensor:
        assert isinstance(model, RoIDetector)
        on_device = batch.to(self.device)
        output = forward(on_device.maps, on_device.key_step, on_device.boxes, on_device.box_scores)
        return model.loss(output, on_device.targets).cpu()

    def validate(self, settings: HeadBase, model: nn.Module) -> tuple[float, float]:
        found, loss = self._detect(model, "val")
        if found is None:
            return float("nan"), 0.0
        return loss, self._score("val", found)

    def _score(self, split: str, found: Found) -> float:
        rules = {"iou": self.settings.iou, "min_score": self.settings.min_score}
        return key_precision(self.data, split, found, **rules).mean_ap

    # ------------------------------------------------------------ what comes out

    def _detect(self, model: nn.Module, split: str) -> tuple[Found | None, float]:
        """What is found at the keyframes of a split, and their mean loss; None where that is no number."""
        assert isinstance(model, RoIDetector)
        model.eval()
        keys = self.data.keys_of(split)
        detections: list[KeyDetections] = []
        loss_sum = 0.0
        with torch.inference_mode():
            for batch in eval_batches(self.store, self.data, self.normaliser, keys):
                on_device = batch.to(self.device)
                output = model(on_device.maps, on_device.key_step, on_device.boxes, on_device.box_scores)
                loss_sum += float(model.loss(output, on_device.targets).sum())
                if not np.isfinite(loss_sum):
                    return None, float("nan")  # diverged: there is nothing to decode
                detections += model.decode(output)
        return Found(self.data, keys, detections), loss_sum / max(len(keys), 1)

    def _output(self, model: nn.Module, split: str) -> Output:
        found, _ = self._detect(model, split)
        assert found is not None, "weights that were validated give numbers"
        return Output(found, linked(self.data, found, self.settings.linking))

    def outputs(self, settings: HeadBase, model: nn.Module) -> dict[str, Output]:
        wanted = ("val", "test") if self.settings.proposals == "truth" else ("val", "test", NO_SPLIT)
        return {split: self._output(model, split) for split in wanted if split in self.data.splits}

    def about(self) -> dict[str, Any]:
        return {
            "features": dict(self.product.upstream),
            "dims": list(self.data.maps.blocks),
            "map": list(self.data.maps.shape),
            "step_s": self.data.maps.step_s,
            "classes": [name for _, name in self.data.classes],
        }

    def constants(self) -> Weights:
        return self.normaliser.tensors()

    @property
    def evaluated_on(self) -> str:
        return evaluated_on(self.data.splits)

    def write(self, writer: UnitWriter, trained: Mapping[str, Trained]) -> dict[str, Any]:
        (one,) = trained.values()
        outputs: dict[str, Output] = one.outputs
        for split, output in outputs.items():
            if self.data.actions is not None:
                writer.file(f"predictions_{split}.csv").write(self._csv(output.found))
            writer.file(f"tubes_{split}.json").write(write_tubes(output.tubes))
        self._draw(writer, outputs)
        splits = {split: self._results(split, output) for split, output in outputs.items() if split != NO_SPLIT}
        return {
            "evaluated_on": self.evaluated_on,
            "headline": headline(splits[self.evaluated_on], iou=self.settings.iou),
            "num_items": {split: len(self.data.keys_of(split)) for split in sorted(set(self.data.splits.tolist()))},
            "num_classes": len(self.data.classes),
            "epochs": len(one.history),
            "best_epoch": one.best_epoch,
            "annotations": dict(self.data.facts),
            "missing": [str(missing) for missing in self.data.missing],
            "splits": splits,
        }

    def _draw(self, writer: UnitWriter, outputs: Mapping[str, Output]) -> None:
        """Pictures of the evaluated split, and of the tubes in videos without annotation."""
        frames = FrameReader(self.store, next(iter(self.product.upstream)))
        title = f"{self.product.path}, {self.evaluated_on}"
        found, tubes = outputs[self.evaluated_on]
        pictures = {
            "boxes.png": draw_boxes(self.data, found, frames.at, iou=self.settings.iou, title=title),
            "tubes.png": draw_tubes(self.data, tubes, frames.at, title=title),
        }
        if NO_SPLIT in outputs:
            title = f"{self.product.path}, videos without annotation"
            pictures["tubes_none.png"] = draw_tubes(self.data, outputs[NO_SPLIT].tubes, frames.at, title=title)
        for name, picture in pictures.items():
            if picture is not None:
                writer.file(name).write(picture)

    def _csv(self, found: Found) -> bytes:
        """AVA csv, on the seconds of the annotations' own csv."""
        assert self.data.actions is not None
        assert isinstance(self.settings.annotations, AVAAnnotations)
        table = box_table(self.data, found, self.data.actions.names, min_score=self.settings.min_score)
        return write_csv(table, self.data.actions, start_s=self.settings.annotations.start_s)

    def _results(self, split: str, output: Output) -> dict[str, Any]:
        rules = {"iou": self.settings.iou, "min_score": self.settings.min_score}
        return split_results(self.data, split, output.found, output.tubes, **rules)

    def evaluate(self, models: Mapping[str, nn.Module], split: str | None) -> dict[str, Any]:
        chosen = chosen_split(self.data.splits, split, noun="keyframe", where=self.product.path)
        (model,) = models.values()
        results = self._results(chosen, self._output(model.to(self.device), chosen))
        return {"split": chosen, "headline": headline(results, iou=self.settings.iou), **results}
