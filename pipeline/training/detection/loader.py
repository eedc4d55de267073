"""Maps read from shards in any order, ahead of whoever consumes them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.npy import from_npy
from pipeline.shards import read_sample
from pipeline.store import Store
from pipeline.training.ahead import OpenShards, open_pool, read_ahead
from pipeline.training.detection.maps import Maps
from schemas.errors import StorageError


class MapLoader:
    """Reads maps, those of all products side by side. `with closing(MapLoader(store, maps)) as loader: …`"""

    def __init__(self, store: Store, maps: Maps) -> None:
        self._maps = maps
        self._pool, self._shards = open_pool("maps"), OpenShards(store)

    def close(self) -> None:
        """Stop the threads and close their shards."""
        self._pool.shutdown(cancel_futures=True)
        self._shards.close()

    def batches(self, rows: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """The maps (N, C, T, H, W) of each batch of rows (N,), in order.

        Raises StorageError for a map that can't be used.
        """
        for maps in read_ahead(self._pool, self.read, (batch.tolist() for batch in rows)):
            yield np.stack(maps)

    def read(self, row: int) -> NDArray[np.float32]:
        """(C, T, H, W) of one map of each product. Raises StorageError, naming it, where it can't be used."""
        maps = self._maps
        parts = []
        for (path, spans), channels in zip(maps.spans.items(), maps.blocks, strict=True):
            try:
                shard = self._shards.open(f"{path}/maps-{int(maps.unit[row]):06d}.tar")
                values = from_npy(read_sample(shard, spans[row])["npy"])
                if values.shape != (channels, *maps.shape) or not np.isfinite(values).all():
                    raise ValueError("it is not what the index says of it, or not finite")
            except (OSError, tarfile.TarError, KeyError, ValueError) as error:
                # of the storage, because one worker of several may be alone with it
                raise StorageError(f"{path}: map {maps.keys[row]} can't be used: {error}") from None
            parts.append(values)
        return np.concatenate(parts).astype(np.float32)
