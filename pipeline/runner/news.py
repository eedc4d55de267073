"""What workers say while they work, brought to the driver."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from schemas.news import Began

POLL_S = 0.5


class Mailbox:
    """Hears from the workers; the driver empties it twice a second."""

    def __init__(self) -> None:
        self._news: list[Any] = []

    def add(self, news: Any) -> None:
        self._news.append(news)

    def take(self) -> list[Any]:
        news, self._news = self._news, []
        return news


_Mailbox: Any = ray.remote(num_cpus=0)(Mailbox)


def _post(mailbox: Any, news: Any) -> None:
    """Waits until the mailbox has it: what is said before a unit is reported is heard before the run ends.

    Of a unit's beginning nobody waits to be heard.
    """
    with contextlib.suppress(ray.exceptions.RayError):
        heard = mailbox.add.remote(news)
        if not isinstance(news, Began):
            ray.get(heard)


def pass_on(all_news: Iterable[Any], listener: Callable[[Any], None]) -> None:
    """Tell a listener. That it can't show some of it (its log's disk is full) ends neither the run nor its ears."""
    for news in all_news:
        with contextlib.suppress(OSError):
            listener(news)


@contextlib.contextmanager
def hearing(listener: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Gives a function that workers elsewhere may call; what they say reaches `listener` here.

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
        yield functools.partial(_post, mailbox)
    finally:
        stop.set()
        thread.join()
        take()
