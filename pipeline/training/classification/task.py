"""One class a video: sequence heads on pooled features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.heads import SequenceHead, build
from pipeline.metrics.classification import top_k_accuracy
from pipeline.receipts import UnitWriter
from pipeline.training.checkpoint import Weights
from pipeline.training.classification.batches import Batch, eval_batches, train_batches
from pipeline.training.classification.dataset import HeadData, load_data
from pipeline.training.classification.results import TOP_K, Scores, chosen_split, split_results, write_results
from pipeline.training.normalise import Normaliser, fit_normaliser
from pipeline.training.task import Share, Source, Task, Trained
from schemas.heads import FeatureHead, HeadBase, LinearHead, LSTMHead, SequenceSettings


class ClassificationTask(Task[Batch]):
    noun = "videos"
    score_name = "top-1"
    select_by = "loss"
    loss_name = "cross-entropy"

    def __init__(self, source: Source, settings: SequenceSettings, constants: Weights | None = None) -> None:
        self.settings = settings
        self.product = source.product
        self.data: HeadData = load_data(source, settings)
        self.ledger = self.data.ledger
        self.num_train = len(self.data.videos_of("train"))
        sequences = self.data.sequences
        if constants is None:
            self.normaliser = fit_normaliser(settings.normalise, sequences.matrix, self.data.train_clips)
        else:
            self.normaliser = Normaliser.from_tensors(settings.normalise, constants)
        self.normaliser.apply_(sequences.matrix, sequences.blocks)

    @staticmethod
    def describe(settings: HeadBase) -> dict[str, Any]:
        return {
            "task": "one class a video",
            "loss": "softmax cross-entropy, mean over videos",
            "selection": "the epoch of the lowest validation loss",
            "top_k": TOP_K,
            "ties": "the lower class index first",
        }

    def identity(self) -> str:
        ids = hashlib.sha256("\n".join(self.data.sequences.video_ids).encode())
        for array in (self.data.sequences.offsets, self.data.labels, np.char.encode(self.data.splits)):
            ids.update(array.tobytes())
        return ids.hexdigest()

    def models(self) -> dict[str, HeadBase]:
        settings = self.settings
        if isinstance(settings, LSTMHead) and settings.linear_probe:
            shared = {name: getattr(settings, name) for name in FeatureHead.model_fields}
            return {"lstm": settings, "linear": LinearHead(kind="linear", **shared)}
        return super().models()

    @property
    def guess(self) -> float:
        return 1 / len(self.data.classes)

    # ------------------------------------------------------------ training

    def open_model(self, settings: HeadBase, *, seed: int) -> SequenceHead:
        blocks = self.data.sequences.blocks
        model = build(settings, blocks=blocks, num_classes=len(self.data.classes), seed=seed)
        assert isinstance(model, SequenceHead)
        return model

    def train_batches(self, settings: HeadBase, model: nn.Module, share: Share) -> Iterator[Batch]:
        assert isinstance(model, SequenceHead)
        return train_batches(self.data, share, batch_size=settings.batch_size, num_noise=model.num_noise)

    def losses(self, model: nn.Module, forward: Callable[..., Any], batch: Batch) -> Tensor:
        assert isinstance(model, SequenceHead)
        return model.loss(forward(batch.x, batch.mask, batch.noise), batch.labels, batch.mask)

    def validate(self, settings: HeadBase, model: nn.Module) -> tuple[float, float]:
        assert isinstance(model, SequenceHead)
        model.eval()
        loss_sum, num_right = 0.0, 0
        videos = self.data.videos_of("val")
        with torch.inference_mode():
            for batch in eval_batches(self.data, videos, batch_size=settings.batch_size):
                scores = model(batch.x, batch.mask)
                loss_sum += float(model.loss(scores, batch.labels, batch.mask).sum())
                probabilities = model.decode(scores, batch.mask).numpy()
                if not np.isfinite(probabilities).all():
                    return float("nan"), 0.0
                num_right += round(top_k_accuracy(probabilities, batch.labels.numpy(), 1) * len(batch.labels))
        return loss_sum / len(videos), num_right / len(videos)

    # ------------------------------------------------------------ what comes out

    def predict(self, settings: HeadBase, model: nn.Module, videos: NDArray[np.int64]) -> NDArray[np.float32]:
        """Class probabilities (videos, K) float32, in the order of `videos`."""
        assert isinstance(model, SequenceHead)
        scores = np.zeros((len(self.data.labels), len(self.data.classes)), dtype=np.float32)
        model.eval()
        with torch.inference_mode():
            for batch in eval_batches(self.data, videos, batch_size=settings.batch_size):
                scores[batch.videos] = model.decode(model(batch.x, batch.mask), batch.mask).numpy()
        return scores[videos]

    def outputs(self, settings: HeadBase, model: nn.Module) -> Scores:
        return {split: self.predict(settings, model, self.data.videos_of(split)) for split in self.data.present}

    def about(self) -> dict[str, Any]:
        return {
            "features": dict(self.product.upstream),
            "dims": list(self.data.sequences.blocks),
            "classes": [{"label_id": label_id, "label": label} for label_id, label in self.data.classes],
        }

    def constants(self) -> Weights:
        return self.normaliser.tensors()

    def write(self, writer: UnitWriter, trained: Mapping[str, Trained]) -> dict[str, Any]:
        return write_results(writer, self.data, trained, where=self.product.path)

    def evaluate(self, models: Mapping[str, nn.Module], split: str | None) -> dict[str, Any]:
        chosen = chosen_split(self.data, split, where=self.product.path)
        videos = self.data.videos_of(chosen)
        results = {
            name: split_results(self.data, chosen, self.predict(settings, models[name], videos))
            for name, settings in self.models().items()
        }
        return {"split": chosen, "chance": 1 / len(self.data.classes), "models": results}
