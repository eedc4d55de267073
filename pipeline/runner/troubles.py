"""What a person hears of machines while units are made: storage that is away, nodes that are left out. Each once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from schemas.news import LeftOut, News, Progress, StorageWait, Trouble

Listener = Callable[[News], None]


class Troubles:
    """Of a thousand workers that all wait for one storage, the first that says so is heard, and the first that gets an
    answer. `say` gets the sentences."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = Lock()  # this process's own threads tell, too
        self._away: StorageWait | None = None
        self._left_out: set[tuple[str, str]] = set()  # product, address

    def listening(self, listener: Listener) -> Callable[[News | Trouble], None]:
        """The same listener; troubles are told on the way, and kept from it."""

        def listen(news: News | Trouble) -> None:
            if isinstance(news, StorageWait):
                self.storage(news)
            elif isinstance(news, LeftOut):
                self._leave_out(news)
            else:
                self._progress(news)
                listener(news)

        return listen

    def storage(self, wait: StorageWait) -> None:
        with self._lock:
            if wait.is_away == (self._away is not None):
                return
            self._away = wait if wait.is_away else None
        self._say(wait.sentence + (f" (said by a worker on node {wait.node})" if wait.node else ""))

    def _progress(self, news: News) -> None:
        """Who waited may have died meanwhile; a unit that was made on its node says that storage is back."""
        away = self._away
        if away is not None and isinstance(news, Progress) and news.work is not None and news.work.node == away.node:
            self.storage(StorageWait(away.node, f"storage answers again: {news.product} goes on", is_away=False))

    def _leave_out(self, node: LeftOut) -> None:
        key = (node.product, node.address)
        if key not in self._left_out:
            self._left_out.add(key)
            self._say(
                f"node {node.address} makes nothing of {node.product} until it has its weights: {node.reason}; other "
                "nodes go on, and when they are there this one takes part"
            )
