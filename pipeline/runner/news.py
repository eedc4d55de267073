"""What workers say while they work, brought to the driver."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from schemas.news import Began, Progress, StorageWait

POLL_S = 0.5
GATHER_S = 0.2
FORGET = 0.1  # of what was known of a product's pace, with each unit that is quicker


class Mailbox:
    """Hears from the workers; the driver empties it twice a second."""

    def __init__(self) -> None:
        self._news: list[Any] = []
        self._pace: dict[str, float] = {}

    def add(self, all_news: Sequence[Any]) -> None:
        self._news += all_news
        for news in all_news:
            if isinstance(news, Progress):
                self._pace[news.product] = slowed(self._pace.get(news.product), news)

    def take(self) -> list[Any]:
        news, self._news = self._news, []
        return news

    def pace(self) -> dict[str, float]:
        return self._pace


_Mailbox: Any = ray.remote(num_cpus=0)(Mailbox)


def slowed(pace: float | None, news: Progress) -> float:
    """A product's pace after another unit of it: as slow as that, or a little quicker than before."""
    unit_s = news.work.wall_s if news.work is not None else 0.0  # it stood
    return unit_s if pace is None else max(unit_s, (1 - FORGET) * pace + FORGET * unit_s)


@dataclass(frozen=True, slots=True)
class Line:
    """From anywhere in the cluster to the driver's mailbox: to be called with a piece of news."""

    mailbox: Any

    def __call__(self, news: Any) -> None:
        """Waits until the mailbox has it: what is said before a unit is reported is heard before the run ends.

        Of a unit's beginning, and of storage, nobody waits to be heard.
        """
        self.post([news], wait=not isinstance(news, Began | StorageWait))

    def post(self, all_news: Sequence[Any], *, wait: bool) -> None:
        """With `wait` until the mailbox has these, and all that this process posted before."""
        with contextlib.suppress(ray.exceptions.RayError):
            heard = self.mailbox.add.remote(all_news)
            if wait:
                ray.get(heard)

    def pace(self) -> Mapping[str, float]:
        """Seconds that a worker is at a unit now, by product; of none where the mailbox is lost."""
        with contextlib.suppress(ray.exceptions.RayError):
            return dict(ray.get(self.mailbox.pace.remote()))
        return {}


@contextlib.contextmanager
def gathered(line: Line) -> Iterator[Callable[[Any], None]]:
    """For the time of the block what is told goes to the mailbox in parcels, the first piece at once, and then one
    every GATHER_S as long as there is something to tell; the mailbox has all of it when the block ends."""
    held: list[Any] = []
    posted_s = float("-inf")

    def tell(news: Any) -> None:
        nonlocal posted_s
        held.append(news)
        if time.monotonic() - posted_s >= GATHER_S:
            line.post(held.copy(), wait=False)
            held.clear()
            posted_s = time.monotonic()

    try:
        yield tell
    finally:
        line.post(held, wait=True)


def pass_on(all_news: Iterable[Any], listener: Callable[[Any], None]) -> None:
    """Tell a listener. That it can't show some of it (its log's disk is full) ends neither the run nor its ears."""
    for news in all_news:
        with contextlib.suppress(OSError):
            listener(news)


@contextlib.contextmanager
def hearing(listener: Callable[[Any], None]) -> Iterator[Line]:
    """Gives a line on which workers elsewhere may call; what they say reaches `listener` here.

    News is a courtesy: where it is lost with a node, what stands on storage is still the truth.
    """
    # on the driver's node, so that it is not lost with one that comes and goes. A soft wish for that is not always
    # granted: not to the first actor of a driver on a head without CPUs
    here = ray.get_runtime_context().get_node_id()
    mailbox: Any = _Mailbox.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)).remote()
    stop = threading.Event()

    def take() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            pass_on(ray.get(mailbox.take.remote(), timeout=30), listener)

    def poll() -> None:
        while not stop.wait(POLL_S):
            take()

    thread = threading.Thread(target=poll, name="reelmill-progress", daemon=True)
    thread.start()
    try:
        yield Line(mailbox)
    finally:
        stop.set()
        thread.join()
        take()
