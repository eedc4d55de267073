"""Training a backbone on stored clips, or stored flow, of one class each.

The checkpoint is a backbone's own file: the features section takes it as `weights`, with the same preprocess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline import backbones
from pipeline.backbones.checkpoints import COUNTER
from pipeline.backbones.loading import NUM_CLASSES, serialized
from pipeline.backbones.network import Network
from pipeline.receipts import UnitWriter
from pipeline.stages.clip_inputs import read_upstream
from pipeline.training.checkpoint import Weights
from pipeline.training.classification.results import (
    TOP_K,
    Scores,
    split_results,
    write_results,
)
from pipeline.training.clips.dataset import ClipData, load_clips, sizes_of
from pipeline.training.clips.freeze import freeze, modules_up_to
from pipeline.training.clips.loader import ClipLoader, Wanted
from pipeline.training.shares import Part, shared_batches
from pipeline.training.splits import Split, chosen_split
from pipeline.training.task import Share, Source, Task, Trained
from schemas.errors import ReelmillError, UsageError
from schemas.heads import ClipClassifierHead, HeadBase


@dataclass(frozen=True)
class Batch:
    """N clips. Legend: T frames, h×w pixels, C channels."""

    clips: Tensor  # (N, T, h, w, C) uint8 RGB, or float32 px of flow
    labels: Tensor  # (N,) int64
    weights: Tensor  # (N,) float32
    total: int


class ClipTask(Task[Batch]):
    noun = "clips"
    score_name = "top-1"
    select_by = "score"
    loss_name = "cross-entropy"
    wants_gpu = True

    def __init__(self, source: Source, settings: ClipClassifierHead, constants: Weights | None = None) -> None:
        self.settings: ClipClassifierHead = settings
        self.product, self.store = source.product, source.store
        self.data: ClipData = load_clips(source, settings)
        self.ledger = self.data.ledger
        self.num_train = len(self.data.clips_of("train"))
        self.upstream = read_upstream(self.store, settings.source)
        if self.upstream.fingerprint != source.product.upstream[settings.source]:
            raise ReelmillError(f"{settings.source}: its card is of other settings; run the whole config again")
        self._first = self._first_net()
        self.size = self._input_size(self._first)
        self._frozen = self._modules_to_freeze(self._first)

    @staticmethod
    def describe(settings: HeadBase) -> dict[str, Any]:
        return {
            "task": "one class a clip; at test the probabilities of a video's clips are averaged",
            "loss": "softmax cross-entropy, mean over clips",
            "selection": "the epoch of the highest validation top-1, of equals the one of the lowest loss",
            "top_k": TOP_K,
            "ties": "the lower class index first",
        }

    def identity(self) -> str:
        ids = hashlib.sha256("\n".join(self.data.shards_sha256).encode())
        ids.update("\n".join(clip.clip_id for clip in self.data.clips).encode())
        for array in (self.data.group, self.data.labels, np.char.encode(self.data.splits)):
            ids.update(array.tobytes())
        return ids.hexdigest()

    @property
    def guess(self) -> float:
        return 1 / len(self.data.classes)

    # ------------------------------------------------------------ the network

    def open_model(self, settings: HeadBase, *, seed: int) -> Network:
        """The backbone with a classifier of the data's classes: the checkpoint's own where it has as many."""
        net = self._first
        if net.spec.num_classes != len(self.data.classes):
            net = self._with_new_classifier(net, seed % 2**31)
        net.requires_grad_(True)
        freeze(net, self._frozen)
        return net

    def _first_net(self) -> Network:
        """What training starts from, with the checkpoint's classifier if it has one."""
        settings = self.settings
        options = dict(settings.model_options)
        if NUM_CLASSES in options:
            raise UsageError(
                f"{self.product.path}: model_options.{NUM_CLASSES} is for features; here it is the number of the "
                "clips' classes; drop it"
            )
        if backbones.random_seed(settings.weights) is not None:
            options[NUM_CLASSES] = len(self.data.classes)
        return backbones.build(
            settings.model, weights=settings.weights, options=options, preprocess=settings.preprocess
        )

    def _with_new_classifier(self, net: Network, seed: int) -> Network:
        options = {**net.options, NUM_CLASSES: len(self.data.classes)}
        new = backbones.build(
            self.settings.model, weights=f"random:{seed}", options=options, preprocess=self.settings.preprocess
        )
        state, old = new.state_dict(), net.state_dict()
        kept = {name: value for name, value in old.items() if name in state and state[name].shape == value.shape}
        new.load_state_dict({**state, **kept})
        return new

    def _input_size(self, net: Network) -> tuple[int, int]:
        """The (height, width) that enters the net. Raises ReelmillError where clips would differ in it or don't fit."""
        preprocessing, where = net.spec.preprocessing, self.product.path
        stored = list(sizes_of(self.data.clips))
        try:
            for size in stored:
                preprocessing.fit(np.zeros((1, *size, self.upstream.num_channels), np.uint8))
            sizes = {preprocessing.crop or preprocessing.target(*size) for size in stored}
            if len(sizes) > 1:
                have = ", ".join(f"{height}×{width}" for height, width in sorted(sizes))
                raise ReelmillError(
                    f"its clips are of several sizes ({have}), and a batch takes one; set preprocess.crop here, or "
                    "resize in the clips"
                )
            (size,) = sizes
            net.spec.require_input(self.upstream.frames, size)
        except ReelmillError as error:
            raise type(error)(f"{where}: {error}") from None
        return size

    def _modules_to_freeze(self, net: Network) -> list[str]:
        clip = (self.upstream.frames, *self.size)
        return list(
            dict.fromkeys(name for layer in self.settings.freeze for name in modules_up_to(net, layer, clip=clip))
        )

    # ------------------------------------------------------------ training

    def train_batches(self, settings: HeadBase, model: nn.Module, share: Share) -> Iterator[Batch]:
        assert isinstance(model, Network)
        freeze(model, self._frozen)  # the loop has just called train()
        parts = list(shared_batches(self.data.clips_of("train"), share, batch_size=settings.batch_size))
        wanted = (self._wanted(part.items, part.seeds) for part in parts)
        with closing(self._loader(model)) as loader:
            for part, clips in zip(parts, loader.batches(wanted), strict=True):
                yield self._batch(part, clips)

    def losses(self, model: nn.Module, forward: Callable[..., Any], batch: Batch) -> Tensor:
        assert isinstance(model, Network)
        logits = self._logits(model, forward, batch.clips)
        return F.cross_entropy(logits, batch.labels.to(self.device), reduction="none").cpu()

    def _logits(self, model: Network, forward: Callable[..., Any], clips: Tensor) -> Tensor:
        """(N, K) float32 of (N, T, h, w, C) decoded clips."""
        x = model.spec.preprocessing.normalise(clips.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            logits: Tensor = forward(x)
        return logits.float()

    def validate(self, settings: HeadBase, model: nn.Module) -> tuple[float, float]:
        probabilities, loss = self._predict(settings, model, "val")
        if not np.isfinite(probabilities).all():
            return float("nan"), 0.0
        labels = self.data.labels[self.data.videos_of("val")]
        return loss, float((probabilities.argmax(axis=1) == labels).mean())

    # ------------------------------------------------------------ what comes out

    def _predict(self, settings: HeadBase, model: nn.Module, split: Split) -> tuple[NDArray[np.float32], float]:
        """Class probabilities (videos of the split, K), averaged over clips; and the mean loss of the clips."""
        assert isinstance(model, Network)
        model.to(self.device).eval()
        clips = self.data.clips_of(split)
        places = [clips[at : at + settings.batch_size] for at in range(0, len(clips), settings.batch_size)]
        sums = np.zeros((len(self.data.labels), len(self.data.classes)), dtype=np.float64)
        loss_sum = 0.0
        with torch.inference_mode(), closing(self._loader(model)) as loader:
            batches = loader.batches(self._wanted(items, None) for items in places)
            for items, batch in zip(places, batches, strict=True):
                logits = self._logits(model, model, batch).cpu()
                labels = torch.from_numpy(self._labels_of(items))
                loss_sum += float(F.cross_entropy(logits, labels, reduction="sum"))
                np.add.at(sums, self.data.group[items], F.softmax(logits, dim=1).double().numpy())
        videos = self.data.videos_of(split)
        return (sums[videos] / self.data.lengths[videos][:, None]).astype(np.float32), loss_sum / len(clips)

    def outputs(self, settings: HeadBase, model: nn.Module) -> Scores:
        return {split: self._predict(settings, model, split)[0] for split in self.data.present}

    def about(self) -> dict[str, Any]:
        spec = self._first.spec
        return {
            "backbone": spec.name,
            "options": self._first.options,
            "clips": dict(self.product.upstream),
            "input": {"frames": self.upstream.frames, "size": list(self.size), "fps": self.upstream.fps},
            "preprocess": spec.preprocessing.facts(),
            # the place of the file is in the settings: it may move
            "started_from": {"sha256": self._first.weights.sha256, "format": self._first.weights.format},
            "frozen": self._frozen,
            "classes": [{"label_id": label_id, "label": label} for label_id, label in self.data.classes],
        }

    def checkpoint(self, weights: Weights) -> bytes:
        return serialized(weights, name=self._first.spec.name, options=self._first.options)

    def weights(self, checkpoint: Weights) -> Weights:
        counters = [name for name in self._first.state_dict() if name.endswith(COUNTER)]  # of batches; never stored
        return {**checkpoint, **dict.fromkeys(counters, torch.zeros((), dtype=torch.int64))}

    def write(self, writer: UnitWriter, trained: Mapping[str, Trained]) -> dict[str, Any]:
        results = write_results(writer, self.data, trained, where=self.product.path)
        return {**results, "left_out_clips": dict(self.data.left_out_clips)}

    def evaluate(self, models: Mapping[str, nn.Module], split: str | None) -> dict[str, Any]:
        chosen = chosen_split(self.data.present, split, noun="video", where=self.product.path)
        results = {
            name: split_results(self.data, chosen, self._predict(settings, models[name], chosen)[0])
            for name, settings in self.models().items()
        }
        return {"split": chosen, "chance": self.guess, "models": results}

    # ------------------------------------------------------------ clips

    def _loader(self, model: Network) -> ClipLoader:
        return ClipLoader(
            self.store, self.upstream, model.spec.preprocessing, size=self.size, augment=self.settings.augment
        )

    def _wanted(self, items: NDArray[np.int64], seeds: Sequence[int] | None) -> list[Wanted]:
        of_items: Sequence[int | None] = seeds or [None] * len(items)
        return [Wanted(self.data.clips[item], seed) for item, seed in zip(items, of_items, strict=True)]

    def _labels_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.data.labels[self.data.group[items]]

    def _batch(self, part: Part, clips: Tensor) -> Batch:
        labels = torch.from_numpy(self._labels_of(part.items))
        return Batch(clips, labels, torch.full((len(part.items),), part.weight), part.total)
