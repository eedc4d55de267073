"""The training loop: AdamW, a cosine from lr to 0 over the epochs, early stopping on the validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.heads import SequenceHead, build
from pipeline.metrics.classification import top_k_accuracy
from pipeline.store import Store
from pipeline.training.batches import eval_batches, train_batches
from pipeline.training.checkpoint import Epoch, Progress, restore_progress, save_progress, weights_of
from pipeline.training.dataset import HeadData
from pipeline.training.seeds import seed_of
from pipeline.training.worker import Worker
from schemas.config import HeadBase
from schemas.errors import ReelmillError

SAVE_EVERY_S = 5.0  # epochs may take milliseconds, and a checkpoint of 100 MB must not be written after each of those
MAX_GRADIENT_NORM = 5.0  # an LSTM's gradients can explode; LRCN clips them too


@dataclass(frozen=True, slots=True)
class EpochReport:
    """News of one epoch, for showing; `videos_per_s` is never stored."""

    product: str
    model: str  # "lstm" or "linear"
    epochs: int  # that the config allows
    is_best: bool
    videos_per_s: float
    line: Epoch


Report = Callable[[EpochReport], None]


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


def fit(settings: HeadBase, data: HeadData, at: Place) -> Progress:
    """Train one model to the end, from its working checkpoint if there is one.

    Raises ReelmillError when the loss stops being a number.
    """
    progress = _start(settings, data, at)
    forward = at.worker.wrap(progress.model)
    saved_s = time.monotonic()
    while not finished(settings, progress):
        started_s = time.perf_counter()
        lr, train_loss = _train_epoch(settings, data, progress, forward, at)
        val_loss, val_top1 = at.worker.agree(
            _validate(settings, data, progress.model) if at.worker.is_first else [0, 0]
        )
        line = Epoch(progress.epoch + 1, lr, train_loss, val_loss, val_top1)
        if not math.isfinite(train_loss + val_loss):
            raise ReelmillError(
                f"{at.product}: training the {at.name} diverged in epoch {line.epoch} (training loss {train_loss}, "
                f"validation loss {val_loss}); lower lr, now {settings.lr:g}"
            )
        is_best = val_loss < progress.best_val_loss
        progress.history.append(line)
        if is_best:
            progress.best_epoch, progress.best = line.epoch, weights_of(progress.model)
        due = finished(settings, progress) or time.monotonic() - saved_s >= SAVE_EVERY_S
        if at.worker.is_first and due:  # when it is saved decides how much a kill costs, never what comes out
            save_progress(at.store, at.work_path, progress, fingerprint=at.fingerprint)
            saved_s = time.monotonic()
        num_videos = len(data.videos_of("train"))
        rate = num_videos / (time.perf_counter() - started_s)
        at.report(EpochReport(at.product, at.name, settings.epochs, is_best, rate, line))
    return progress


def finished(settings: HeadBase, progress: Progress) -> bool:
    """All epochs are done, or `patience` of them brought no better validation loss."""
    return progress.epoch >= settings.epochs or progress.epoch - progress.best_epoch >= settings.patience


def learning_rate(settings: HeadBase, epoch: int) -> float:
    """Half a cosine: lr in epoch 0, near 0 in the last. Constant within an epoch."""
    return settings.lr * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))


def predict(model: SequenceHead, data: HeadData, videos: NDArray[np.int64], *, batch_size: int) -> NDArray[np.float32]:
    """Class probabilities (videos, K) float32, in the order of `videos`."""
    scores = np.zeros((len(data.labels), len(data.classes)), dtype=np.float32)
    model.eval()
    with torch.inference_mode():
        for batch in eval_batches(data, videos, batch_size=batch_size):
            scores[batch.videos] = model.decode(model(batch.x, batch.mask), batch.mask).numpy()
    return scores[videos]


def _start(settings: HeadBase, data: HeadData, at: Place) -> Progress:
    seed = seed_of(settings.seed, "weights", at.name)
    model = build(settings, blocks=data.sequences.blocks, num_classes=len(data.classes), seed=seed)
    assert isinstance(model, SequenceHead)
    # foreach and fused variants differ in the last bit between builds; these models are small
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, foreach=False, fused=False
    )
    progress = Progress(model, optimizer)
    restore_progress(at.store, at.work_path, progress, fingerprint=at.fingerprint)
    (epoch,) = at.worker.agree([progress.epoch])  # nobody trains before everybody has read the same checkpoint
    assert epoch == progress.epoch, f"worker {at.worker.rank} restored epoch {progress.epoch}, the first one {epoch}"
    return progress


def _train_epoch(
    settings: HeadBase, data: HeadData, progress: Progress, forward: nn.Module, at: Place
) -> tuple[float, float]:
    """One pass over the training videos: (learning rate, mean loss)."""
    model, optimizer, worker = progress.model, progress.optimizer, at.worker
    lr = learning_rate(settings, progress.epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr
    model.train()
    loss_sum = 0.0
    batches = train_batches(
        data,
        batch_size=settings.batch_size,
        seed=seed_of(settings.seed, at.name),
        epoch=progress.epoch,
        num_noise=model.num_noise,
        rank=worker.rank,
        world_size=worker.world_size,
    )
    for batch in batches:
        losses = model.loss(forward(batch.x, batch.mask, batch.noise), batch.labels, batch.mask)
        loss: Tensor = (losses * batch.weights).sum()
        # gradients are averaged over workers: times their number, so that the mean is over the whole batch
        (loss * (worker.world_size / batch.total)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM, foreach=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_sum += float(loss.detach())
    return lr, worker.sum(loss_sum) / len(data.videos_of("train"))


def _validate(settings: HeadBase, data: HeadData, model: SequenceHead) -> list[float]:
    """[mean loss, top-1 accuracy] over the validation videos."""
    model.eval()
    loss_sum, num_right = 0.0, 0
    videos = data.videos_of("val")
    with torch.inference_mode():
        for batch in eval_batches(data, videos, batch_size=settings.batch_size):
            scores = model(batch.x, batch.mask)
            loss_sum += float(model.loss(scores, batch.labels, batch.mask).sum())
            probabilities = model.decode(scores, batch.mask).numpy()
            if not np.isfinite(probabilities).all():
                return [float("nan"), 0.0]
            num_right += round(top_k_accuracy(probabilities, batch.labels.numpy(), 1) * len(batch.labels))
    return [loss_sum / len(videos), num_right / len(videos)]
