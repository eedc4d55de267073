"""Trains a head in processes of their own, to be killed in the midst of it.

They are forked by a server that has imported torch, before it uses any: a start takes no seconds, and what is killed
is as much of a process as ever.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.graph import Product, Unit
from pipeline.store import Store
from pipeline.training import loop
from pipeline.training.clips.task import ClipTask
from pipeline.training.head import train_head
from pipeline.training.worker import Worker

TIMEOUT_S = 300
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["torch.distributed", "pipeline.training.head", "pipeline.training.clips.task"])


class Training(NamedTuple):
    """What a process needs to train a head of a dataset."""

    product: Product
    unit: Unit
    units: list[Unit]
    root: str

    @classmethod
    def of(cls, dataset: Any, product: Product) -> Training:
        return cls(product, dataset.whole, list(dataset.units), str(dataset.store.uri))

    def run(self, **settings: Any) -> None:
        train_head(self.product, self.unit, Store(self.root), feature_units=self.units, **settings)


def train(dataset: Any, product: Product, lives: Sequence[int], *, steps: bool) -> list[str]:
    """Train in processes of their own, each killed (SIGKILL) after so many lines of news; the last one ends by itself.

    Returns the news: "epoch MODEL N", and with `steps` also "step EPOCH N".
    """
    training, seen = Training.of(dataset, product), list[str]()
    for lines_to_live in (*lives, None):
        hear, tell = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_train_telling, args=(training, tell, steps))
        process.start()
        tell.close()
        number = 0
        while (line := _heard(hear)) is not None:
            seen.append(line)
            number += 1
            if number == lines_to_live:
                process.kill()  # it may be anywhere after that, or writing
                break
        assert _ended(process) == (0 if lines_to_live is None else -signal.SIGKILL)
    return seen


def _train_telling(training: Training, tell: Connection, steps: bool) -> None:
    torch.set_num_threads(1)
    loop.SAVE_EVERY_S = 0
    loop.SHOW_EVERY_S = 0 if steps else 1e9

    def report(news: Any) -> None:
        is_epoch = isinstance(news, loop.EpochReport)
        tell.send(f"epoch {news.model} {news.line.epoch}" if is_epoch else f"step {news.epoch} {news.step}")

    training.run(report=report)


def _heard(hear: Connection) -> str | None:
    try:
        assert hear.poll(TIMEOUT_S), "the training says nothing"
        return str(hear.recv())
    except EOFError:
        return None


def _ended(process: Any) -> int | None:
    process.join(TIMEOUT_S)
    code: int | None = process.exitcode
    return code


def train_on_two(dataset: Any, product: Product, meeting: Path, *, dies_at: int = 0) -> list[tuple[int | None, int]]:
    """(exit status, steps taken) of two processes that train together; the second kills itself at a step."""
    training = Training.of(dataset, product)
    steps = [FORKS.Value("q", 0) for _ in range(2)]
    processes = [
        FORKS.Process(target=_train_as, args=(training, rank, meeting, dies_at, steps[rank])) for rank in range(2)
    ]
    for process in processes:
        process.start()
    return [(_ended(process), taken.value) for process, taken in zip(processes, steps, strict=True)]


def _train_as(training: Training, rank: int, meeting: Path, dies_at: int, steps: Any) -> None:
    torch.set_num_threads(1)
    loop.SAVE_EVERY_S = 0
    losses = ClipTask.losses

    def counting(*args: Any) -> Any:
        steps.value += 1
        if rank == 1 and steps.value == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return losses(*args)

    ClipTask.losses = counting  # type: ignore[method-assign]
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    training.run(worker=Worker(rank, 2))
