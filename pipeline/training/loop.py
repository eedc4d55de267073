"""The training loop of every task: batches, losses, a schedule, validation, early stopping, going on after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.store import Store
from pipeline.training.batch_norm import count_items
from pipeline.training.checkpoint import Epoch, Progress, restore_progress, save_progress, weights_of
from pipeline.training.schedule import learning_rate
from pipeline.training.seeds import seed_of
from pipeline.training.task import Share, Task
from pipeline.training.worker import Worker
from schemas.errors import ReelmillError
from schemas.heads import HeadBase

SAVE_EVERY_S = 5.0  # steps may take milliseconds, and a checkpoint of 100 MB must not be written after each of those
SAVE_SHARE = 0.05  # of the time, at most, goes into checkpoints: those of large networks take seconds
SHOW_EVERY_S = 2.0  # inside an epoch
MAX_GRADIENT_NORM = 5.0  # an LSTM's gradients can explode; LRCN clips them too


@dataclass(frozen=True, slots=True)
class EpochReport:
    """News of one epoch, for showing; `items_per_s` is never stored."""

    product: str
    model: str  # "lstm" or "linear"
    epochs: int  # that the config allows
    is_best: bool
    items_per_s: float
    line: Epoch
    noun: str  # what items are
    score_name: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """News from inside a long epoch, for showing."""

    product: str
    model: str
    epoch: int  # from 1
    epochs: int
    step: int  # done
    steps: int
    loss: float  # mean over the epoch so far
    items_per_s: float
    noun: str


Report = Callable[[EpochReport | StepReport], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one model's training keeps its state, and whom it tells."""

    store: Store
    product: str
    name: str  # of the model, and of its working checkpoint
    work_path: str
    fingerprint: str
    worker: Worker
    report: Report


class Fitting:
    """One model being trained: what stays the same from epoch to epoch."""

    def __init__(self, task: Task[Any], settings: HeadBase, at: Place) -> None:
        self.task, self.settings, self.at = task, settings, at
        self.progress = _start(task, settings, at)
        self.forward = at.worker.wrap(self.progress.model)
        self.next_save_s = time.monotonic() + SAVE_EVERY_S

    def epoch(self) -> None:
        """One more epoch: train, validate, keep the best, save, tell."""
        task, progress, worker = self.task, self.progress, self.at.worker
        started_s, first_step = time.perf_counter(), progress.step
        lr, train_loss = self._train(started_s)
        rate = self._rate(progress.step - first_step, started_s)
        validated = task.validate(self.settings, progress.model) if worker.is_first else (0.0, 0.0)
        val_loss, val_score = worker.agree(list(validated))
        line = Epoch(progress.epoch + 1, lr, train_loss, val_loss, val_score)
        if not math.isfinite(train_loss + val_loss):
            raise ReelmillError(
                f"{self.at.product}: training the {self.at.name} diverged in epoch {line.epoch} (training loss "
                f"{train_loss}, validation loss {val_loss}); lower lr, now {self.settings.lr:g}"
            )
        is_best = progress.best_line is None or merit(task, line) > merit(task, progress.best_line)
        progress.history.append(line)
        progress.step, progress.loss_sum = 0, 0.0
        if is_best:
            progress.best_epoch, progress.best = line.epoch, weights_of(progress.model)
        if finished(self.settings, progress):
            self.next_save_s = 0.0  # not to be trained again if a kill comes between this and the commit
        self._save_if_due()
        self.at.report(
            EpochReport(
                self.at.product,
                self.at.name,
                self.settings.epochs,
                is_best,
                rate,
                line,
                task.noun,
                task.score_name,
            )
        )

    def _train(self, started_s: float) -> tuple[float, float]:
        """The rest of an epoch's batches: (learning rate, mean loss of the whole epoch)."""
        task, progress, worker = self.task, self.progress, self.at.worker
        lr = learning_rate(self.settings, progress.epoch)
        for group in progress.optimizer.param_groups:
            group["lr"] = lr
        progress.model.train()
        shown_s, first_step = time.monotonic(), progress.step
        seed = seed_of(self.settings.seed, self.at.name)
        share = Share(seed, progress.epoch, progress.step, worker.rank, worker.world_size)
        for batch in task.train_batches(self.settings, progress.model, share):
            count_items(progress.model, batch.weights)
            loss = (task.losses(progress.model, self.forward, batch) * batch.weights).sum()
            # gradients are averaged over workers: times their number, so that the mean is over the whole batch
            (loss * (worker.world_size / batch.total)).backward()
            nn.utils.clip_grad_norm_(_trained(progress.model), MAX_GRADIENT_NORM, foreach=False)
            progress.optimizer.step()
            progress.optimizer.zero_grad(set_to_none=True)
            progress.loss_sum += worker.sum(float(loss.detach()))
            progress.step += 1
            self._save_if_due()
            if time.monotonic() - shown_s >= SHOW_EVERY_S:
                shown_s = time.monotonic()
                self._tell_step(first_step, started_s)
        return lr, progress.loss_sum / task.num_train

    def _save_if_due(self) -> None:
        """Save now and then: when decides how much a kill costs, never what comes out."""
        now_s = time.monotonic()
        if not self.at.worker.is_first or now_s < self.next_save_s:
            return
        save_progress(self.at.store, self.at.work_path, self.progress, fingerprint=self.at.fingerprint)
        took_s = time.monotonic() - now_s
        self.next_save_s = time.monotonic() + max(SAVE_EVERY_S, took_s / SAVE_SHARE) * (SAVE_EVERY_S > 0)

    def _tell_step(self, first_step: int, started_s: float) -> None:
        progress, task = self.progress, self.task
        done = min(progress.step * self.settings.batch_size, task.num_train)
        self.at.report(
            StepReport(
                self.at.product,
                self.at.name,
                progress.epoch + 1,
                self.settings.epochs,
                progress.step,
                task.num_steps(self.settings),
                progress.loss_sum / done,
                self._rate(progress.step - first_step, started_s),
                task.noun,
            )
        )

    def _rate(self, steps: int, started_s: float) -> float:
        """Items a second, of `steps` batches since `started_s`."""
        items = min(steps * self.settings.batch_size, self.task.num_train)
        return items / max(time.perf_counter() - started_s, 1e-9)


def fit(task: Task[Any], settings: HeadBase, at: Place) -> Progress:
    """Train one model to the end, from its working checkpoint if there is one.

    Raises ReelmillError when the loss stops being a number.
    """
    fitting = Fitting(task, settings, at)
    while not finished(settings, fitting.progress):
        fitting.epoch()
    return fitting.progress


def finished(settings: HeadBase, progress: Progress) -> bool:
    """All epochs are done, or `patience` of them brought no better validation."""
    return progress.epoch >= settings.epochs or progress.epoch - progress.best_epoch >= settings.patience


def merit(task: Task[Any], line: Epoch) -> tuple[float, float]:
    """What makes one epoch better than another; of equals the first is kept."""
    return (0.0, -line.val_loss) if task.select_by == "loss" else (line.val_score, -line.val_loss)


def _start(task: Task[Any], settings: HeadBase, at: Place) -> Progress:
    model = task.open_model(settings, seed=seed_of(settings.seed, "weights", at.name)).to(task.device)
    progress = Progress(model, _optimizer(settings, model))
    restore_progress(at.store, at.work_path, progress, fingerprint=at.fingerprint)
    done = at.worker.agree([progress.epoch, progress.step])
    assert done == [progress.epoch, progress.step], f"worker {at.worker.rank} restored another state than the first"
    return progress


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizer(settings: HeadBase, model: nn.Module) -> torch.optim.Optimizer:
    # foreach and fused variants differ in the last bit between builds
    same: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay, "foreach": False, "fused": False}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(_trained(model), momentum=0.9, nesterov=True, **same)
    return torch.optim.AdamW(_trained(model), **same)
