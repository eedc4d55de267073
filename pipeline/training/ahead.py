"""Items read from shards in any order, by threads, ahead of whoever consumes them in batches."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa

from pipeline.store import Store
from pipeline.threads import num_cores

BATCHES_AHEAD = 2
OPEN_SHARDS = 16  # for each thread

Key = TypeVar("Key")
Item = TypeVar("Item")


class OpenShards:
    """Shards kept open, since opening one is a round trip to an object store; those used last, for each thread its own.

    To be closed when the threads that read from them have stopped.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._local = threading.local()
        self._of_threads: list[OrderedDict[str, pa.NativeFile]] = []

    def open(self, path: str) -> pa.NativeFile:
        """A shard, at any position; good until this thread opens OPEN_SHARDS others. Raises OSError."""
        files = self._files()
        if path not in files:
            files[path] = self._store.open(path)
            if len(files) > OPEN_SHARDS:
                files.popitem(last=False)[1].close()
        files.move_to_end(path)
        return files[path]

    def close(self) -> None:
        """Close the shards of all threads."""
        for files in self._of_threads:
            while files:
                files.popitem()[1].close()

    def _files(self) -> OrderedDict[str, pa.NativeFile]:
        """Those of this thread, by path, the one used last at the end."""
        if not hasattr(self._local, "files"):
            self._local.files = OrderedDict()
            self._of_threads.append(self._local.files)
        files: OrderedDict[str, pa.NativeFile] = self._local.files
        return files


def open_pool(name: str) -> ThreadPoolExecutor:
    """Threads to read with, one a core; to be shut down."""
    return ThreadPoolExecutor(num_cores(), thread_name_prefix=name)


def read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Key], Item], batches: Iterable[Iterable[Key]]
) -> Iterator[list[Item]]:
    """What `read` makes of each batch, in order, while the next BATCHES_AHEAD of them are read.

    Raises what `read` raises, for the first in order. After that, or when closed early, no reading begins any more.
    """
    ahead: deque[list[Future[Item]]] = deque()
    try:
        for batch in batches:
            ahead.append([pool.submit(read, key) for key in batch])
            if len(ahead) > BATCHES_AHEAD:
                yield _finish(ahead)
        while ahead:
            yield _finish(ahead)
    finally:
        for futures in ahead:
            for future in futures:
                future.cancel()


def _finish(ahead: deque[list[Future[Item]]]) -> list[Item]:
    """The items of the first batch, which stays there until it is whole."""
    items = [future.result() for future in ahead[0]]
    ahead.popleft()
    return items
