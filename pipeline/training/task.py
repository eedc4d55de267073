"""What the training loop, the stage and the evaluation need to know of a kind of training: one class for each kind.

A task holds its data, read once. The loop asks it for a model, for batches and for losses; when training has ended
the stage hands it the best weights' model and asks for files. A new task is a room beside this file with a subclass
in its `task.py`, and its line in `tasks.py`.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.backbones import precision
from pipeline.graph import Product, Unit
from pipeline.receipts import UnitWriter
from pipeline.store import Store
from pipeline.training.checkpoint import Epoch, Weights
from schemas.heads import HeadBase
from schemas.ledger import LedgerRow


class Batch(Protocol):
    """One worker's share of a training batch; the rest of it is between the task and itself."""

    @property
    def weights(self) -> Tensor:
        """(N,) float32: 1, or 0 for an item that only keeps a worker busy."""

    @property
    def total(self) -> int:
        """Items of the batch on all workers."""


B = TypeVar("B", bound=Batch)


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of which batches a worker trains on. The order is a function of (seed, epoch) alone."""

    seed: int
    epoch: int  # from 0
    first_step: int = 0  # batches of the epoch that are done: training may be resumed inside an epoch
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """What a task reads: the whole manifest's unit, and the units and products of what it is trained on."""

    product: Product
    unit: Unit
    units: Sequence[Unit]
    store: Store


@dataclass(frozen=True)
class Trained:
    """One trained model of a head: the head itself, or a probe beside it."""

    settings: HeadBase
    history: Sequence[Epoch]
    best_epoch: int
    best: Weights
    last: Weights
    outputs: Any  # what `Task.outputs` gave for the best weights


class Task(ABC, Generic[B]):
    """One kind of training, with its data. Items are what a batch counts: videos, keyframes, clips."""

    noun: str  # what items are called: "videos"
    score_name: str  # of Epoch.val_score, which is a share in [0, 1], higher is better
    select_by: Literal["loss", "score"]  # which epoch is the best: lowest val_loss or highest val_score
    loss_name: str  # for the curves' axis

    settings: HeadBase
    ledger: tuple[LedgerRow, ...]  # one row per manifest row
    num_train: int  # items of an epoch
    wants_gpu = False  # most heads are too small to gain from one

    @staticmethod
    @abstractmethod
    def describe(settings: HeadBase) -> dict[str, Any]:
        """What the card says beyond the settings: the task, the loss, the metric's rule."""

    @abstractmethod
    def identity(self) -> str:
        """What a working checkpoint must agree with, besides the fingerprint: features can be healed in between."""

    def models(self) -> dict[str, HeadBase]:
        """What is trained: the head itself first."""
        return {self.settings.kind: self.settings}  # type: ignore[attr-defined]  # every head has one

    @property
    def guess(self) -> float | None:
        """The score of guessing, for the curves; None where there is no such thing."""
        return None

    # ------------------------------------------------------------ for the loop

    @cached_property
    def device(self) -> torch.device:
        """Where the model is trained."""
        if not self.wants_gpu:
            return torch.device("cpu")
        found = precision.device()
        precision.keep_fp32(found)
        return found

    @abstractmethod
    def open_model(self, settings: HeadBase, *, seed: int) -> nn.Module:
        """A model with its first weights."""

    @abstractmethod
    def train_batches(self, settings: HeadBase, model: nn.Module, share: Share) -> Iterator[B]:
        """A worker's part of an epoch's batches, from `share.first_step` on: equally many on every worker."""

    @abstractmethod
    def losses(self, model: nn.Module, forward: Callable[..., Any], batch: B) -> Tensor:
        """The loss of each item (N,). `forward` calls the model, once, so that gradients are exchanged."""

    @abstractmethod
    def validate(self, settings: HeadBase, model: nn.Module) -> tuple[float, float]:
        """(mean loss, score) on the validation items; a loss of nan means that training diverged."""

    def num_steps(self, settings: HeadBase) -> int:
        """Batches of an epoch."""
        return -(-self.num_train // settings.batch_size)

    # ------------------------------------------------------------ for the stage

    @abstractmethod
    def outputs(self, settings: HeadBase, model: nn.Module) -> Any:
        """What the best weights say of the items that are evaluated."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a reader of a checkpoint must know besides the settings: classes, dimensions, seconds a step."""

    def constants(self) -> Weights:
        """Tensors that a checkpoint holds beside the weights, by name: the normalisation."""
        return {}

    def checkpoint(self, weights: Weights) -> bytes:
        """A checkpoint as safetensors. No metadata, whose keys have no fixed order."""
        return save({f"model.{key}": value for key, value in weights.items()} | self.constants())

    def weights(self, checkpoint: Weights) -> Weights:
        """The weights again, from the tensors of `checkpoint`."""
        return {k.removeprefix("model."): v for k, v in checkpoint.items() if k.startswith("model.")}

    @abstractmethod
    def write(self, writer: UnitWriter, trained: Mapping[str, Trained]) -> dict[str, Any]:
        """Write predictions and pictures; returns what metrics.json holds of this task.

        That has "evaluated_on" (a split), "headline" ({metric: value}, what a table shows first) and "num_items" by
        split, at least.
        """

    # ------------------------------------------------------------ for `reelmill evaluate`

    @abstractmethod
    def evaluate(self, models: Mapping[str, nn.Module], split: str | None) -> dict[str, Any]:
        """Results of stored models on one split (default: the one that metrics.json reports).

        Raises UsageError where the split has no items.
        """


def model_folder(place: int) -> str:
    """Where the files of a head's models are: the head's own at the top, a probe's below `probe/`."""
    return "" if place == 0 else "probe/"


def csv_bytes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A csv file, lines ending in \\n on every machine."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()
