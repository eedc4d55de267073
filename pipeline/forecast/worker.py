"""The other side of a probe: a process that holds a stage open and times units, as a worker of a run would."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from threading import BrokenBarrierError
from typing import Any

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.stages import Stage, card_of, stage_module
from pipeline.store import Store
from schemas.config import Limits
from schemas.errors import ReelmillError

OPENING_S = 900.0  # for all workers of a product to have opened their stages

_state: dict[str, Any] = {}  # of a worker process


@dataclass(frozen=True, slots=True)
class Timed:
    """One unit, as a worker measured it."""

    unit: int
    worker_s: float
    cpu_s: float  # of all threads and the decoder process
    items: int
    num_bytes: int  # of its files
    num_files: int  # with the receipt
    num_lost: int  # rows that failed
    reason: str  # why, of the first


@dataclass(frozen=True, slots=True)
class Opened:
    """A worker that has made its first items."""

    wall_s: float
    cpu_s: float  # of its first units, beyond what they take once all is loaded
    warmed: Timed


class Workers:
    """Processes that hold one product's stage open: `with Workers(…) as workers: for timed in workers.run(units): …`

    The first of them makes the card, in `card_s`. Each makes the units of `warm` until one gives items: what only fails
    leaves code unloaded and uncompiled. `open_s` is what the slowest took to load its code and its model and to make
    that one, `warmed`; `open_cpu_s` is what making it took one of them of CPUs beyond what it takes once more.
    """

    def __init__(self, product: Product, store: Store, limits: Limits, *, count: int, warm: Sequence[Unit]) -> None:
        self._product, self._count, self._arguments = product, count, (product, store.uri, limits, tuple(warm))
        self.card_s = self.open_s = self.open_cpu_s = 0.0
        self.warmed: Timed

    def __enter__(self) -> Workers:
        context = get_context("spawn")  # as Ray does: nothing of this process is shared
        with _one_thread():
            self._pool = ProcessPoolExecutor(
                self._count, mp_context=context, initializer=_remember, initargs=(context.Barrier(self._count),)
            )
            try:
                self.card_s = self._result(self._pool.submit(make_card, self._product, self._arguments[1]))
                opened = [self._pool.submit(_open, *self._arguments) for _ in range(self._count)]
                results = [self._result(future) for future in opened]
                self.open_s = max(one.wall_s for one in results)
                self.open_cpu_s = max(one.cpu_s for one in results)  # one may have loaded some of it for the card
                self.warmed = results[0].warmed
            except BaseException:
                self._pool.shutdown(cancel_futures=True)
                raise
        if self._count == 1:
            self.open_s += self.card_s  # a worker that has made no card loads by itself what making it has loaded
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, units: Sequence[Unit], *, budget_s: float, at_least: int) -> Iterator[Timed]:
        """Time units, as many at once as there are workers, in the order given.

        When `budget_s` is over and `at_least` units are done, those that nobody has begun are left out. Raises
        ReelmillError for a unit that can't be made.
        """
        until_s = time.monotonic() + budget_s
        futures = [self._pool.submit(_time, unit) for unit in units]
        for number, future in enumerate(futures):
            if number >= at_least and time.monotonic() > until_s and future.cancel():
                continue
            yield self._result(future)

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except ReelmillError as error:
            raise type(error)(f"{self._product.path}: {error}") from None
        except (BrokenProcessPool, BrokenBarrierError) as error:
            raise ReelmillError(f"{self._product.path}: its worker died while it was timed ({error})") from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is started inside has one thread for sums, as Ray's workers have; models ask for more themselves."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def ask_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` says in a process that ends with it. Raises ReelmillError as it does, or where it dies."""
    with _one_thread(), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise ReelmillError("a process died while a plan was made; try again") from None


def make_card(product: Product, uri: str) -> float:
    """Write a product's card as a run does; returns what loading its code and model took, in seconds."""
    began_s = time.perf_counter()
    store = Store(uri)
    receipts.write_card(store, card_of(product, store))
    return time.perf_counter() - began_s


# ---------------------------------------------------------------- in the worker


def _remember(barrier: Any) -> None:
    _state["barrier"] = barrier


def _open(product: Product, uri: str, limits: Limits, warm: Sequence[Unit]) -> Opened:
    """Open the stage, make a first unit, and wait for the others, so that all cores are busy from the first timing."""
    began_s = time.perf_counter()
    try:
        stage: Stage = stage_module(product.kind).open_stage(product, Store(uri), limits)
        _state["stage"] = stage
        taken_s = time.perf_counter() - began_s
        first_cpu_s = 0.0
        for unit in warm:
            timed = _time(unit)
            first_cpu_s += timed.cpu_s
            if timed.items:
                break
        once_more = _time(unit)
    except BaseException:
        _state["barrier"].abort()  # nobody waits for one that will not come
        raise
    _state["barrier"].wait(OPENING_S)
    return Opened(taken_s + timed.worker_s, max(0.0, first_cpu_s - once_more.cpu_s), timed)


def _time(unit: Unit) -> Timed:
    stage: Stage = _state["stage"]
    stage.meter.begin()
    receipt = stage(unit)
    work = stage.meter.end(receipt)
    return Timed(
        unit=unit.index,
        worker_s=work.wall_s,
        cpu_s=work.cpu_s,
        items=receipt.items,
        num_bytes=work.bytes_out,
        num_files=len(receipt.files) + 1,
        num_lost=receipt.rows.get("failed", 0),
        reason=next(iter(work.reasons), ""),
    )
