"""What training leaves on storage as it goes, and what a trained head is stored as. Never pickles.

The working checkpoint is one file, `<product>/_work/<name>.safetensors`, put in place whole after a batch every few
seconds: training killed at any moment goes on from it, and ends with the bytes of an undisturbed run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.store import Store

WORK_FOLDER = "_work"
Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the training curve. Losses are means over a task's items."""

    epoch: int  # from 1
    lr: float
    train_loss: float
    val_loss: float
    val_score: float  # Task.score_name says what it is


@dataclass
class Progress:
    """All that the next batch needs. Randomness is not part of it: that comes from (seed, epoch, step)."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0  # 0: none yet
    best: Weights = field(default_factory=dict)
    step: int = 0  # batches of the epoch in hand that are done
    loss_sum: float = 0.0  # of their items, over all workers

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    @property
    def best_line(self) -> Epoch | None:
        return self.history[self.best_epoch - 1] if self.best_epoch else None


def weights_of(model: nn.Module) -> Weights:
    """A copy of the model's weights and buffers, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def save_progress(store: Store, path: str, progress: Progress, *, fingerprint: str) -> None:
    """Put the working checkpoint in place, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in weights_of(progress.model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for index, slots in progress.optimizer.state_dict()["state"].items():
        held = {slot: tensor for slot, tensor in slots.items() if tensor is not None}  # SGD has no momentum at first
        tensors |= {f"optimizer.{index}.{slot}": tensor.detach().cpu().clone() for slot, tensor in held.items()}
    state = {
        "fingerprint": fingerprint,
        "best_epoch": progress.best_epoch,
        "step": progress.step,
        "loss_sum": progress.loss_sum,
        "history": [asdict(epoch) for epoch in progress.history],
    }
    store.put(path, save(tensors, metadata={"state": json.dumps(state)}))


def restore_progress(store: Store, path: str, progress: Progress, *, fingerprint: str) -> None:
    """Fill `progress` from the working checkpoint, if there is one and it belongs to this very training."""
    data = store.read_or_none(path)
    if data is None:
        return
    try:
        state, tensors = json.loads(_metadata(data)["state"]), load(data)
    except (SafetensorError, ValueError, KeyError, struct.error):
        return  # not ours, or damaged: start over
    if state["fingerprint"] != fingerprint:
        return
    progress.model.load_state_dict(_below("model.", tensors))
    progress.best = _below("best.", tensors)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = tensor
    groups = progress.optimizer.state_dict()["param_groups"]
    progress.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    progress.best_epoch, progress.step = state["best_epoch"], state["step"]
    progress.loss_sum = state["loss_sum"]  # JSON keeps a double's every bit
    progress.history = [Epoch(**epoch) for epoch in state["history"]]


def _below(prefix: str, tensors: Weights) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _metadata(data: bytes) -> dict[str, Any]:
    (num_bytes,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + num_bytes])
    metadata: dict[str, Any] = header["__metadata__"]
    return metadata
