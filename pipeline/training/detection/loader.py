"""Maps read from shards in any order, ahead of whoever consumes them."""

from __future__ import annotations

import tarfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.npy import from_npy
from pipeline.shards import read_sample
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.training.detection.maps import Maps
from schemas.errors import StorageError

BATCHES_AHEAD = 2
OPEN_SHARDS = 16  # for each thread


class MapLoader:
    """Reads maps, those of all products side by side. `with closing(MapLoader(store, maps)) as loader: …`"""

    def __init__(self, store: Store, maps: Maps) -> None:
        self._store, self._maps = store, maps
        self._pool = ThreadPoolExecutor(num_cores(), thread_name_prefix="maps")
        self._local = threading.local()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, rows: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """The maps (N, C, T, H, W) of each batch of rows (N,), in order.

        Raises StorageError for a map that can't be used.
        """
        ahead: deque[list[Future[NDArray[np.float32]]]] = deque()
        try:
            for batch in rows:
                ahead.append([self._pool.submit(self.read, int(row)) for row in batch])
                if len(ahead) > BATCHES_AHEAD:
                    yield np.stack([future.result() for future in ahead.popleft()])
            while ahead:
                yield np.stack([future.result() for future in ahead.popleft()])
        finally:
            for futures in ahead:
                for future in futures:
                    future.cancel()

    def read(self, row: int) -> NDArray[np.float32]:
        """(C, T, H, W) of one map of each product. Raises StorageError, naming it, where it can't be used."""
        maps = self._maps
        parts = []
        for (path, spans), channels in zip(maps.spans.items(), maps.blocks, strict=True):
            try:
                values = from_npy(read_sample(self._open(path, int(maps.unit[row])), spans[row])["npy"])
                if values.shape != (channels, *maps.shape) or not np.isfinite(values).all():
                    raise ValueError("it is not what the index says of it, or not finite")
            except (OSError, tarfile.TarError, KeyError, ValueError) as error:
                # of the storage, because one worker of several may be alone with it
                raise StorageError(f"{path}: map {maps.keys[row]} can't be used: {error}") from None
            parts.append(values)
        return np.concatenate(parts).astype(np.float32)

    def _open(self, path: str, unit: int) -> pa.NativeFile:
        """A shard, kept open: its opening is a round trip to an object store."""
        files: OrderedDict[tuple[str, int], pa.NativeFile] = self._local.__dict__.setdefault("files", OrderedDict())
        if (path, unit) not in files:
            files[path, unit] = self._store.open(f"{path}/maps-{unit:06d}.tar")
            if len(files) > OPEN_SHARDS:
                files.popitem(last=False)[1].close()
        files.move_to_end((path, unit))
        return files[path, unit]
