"""Batches of decoded clips, read from shards in any order and decoded ahead by threads."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.views import cut, views_of
from pipeline.shards import read_sample
from pipeline.stages.clip_inputs import Upstream
from pipeline.store import Store
from pipeline.training.ahead import OpenShards, open_pool, read_ahead
from pipeline.training.clips.augment import augmented, draw
from pipeline.training.clips.dataset import StoredClip
from schemas.errors import ReelmillError, StorageError
from schemas.heads import Augment


@dataclass(frozen=True, slots=True)
class Wanted:
    """One clip of a batch. seed: of what is drawn for a training clip; None: the centre of the frame, unchanged."""

    clip: StoredClip
    seed: int | None


class ClipLoader:
    """Reads clips of one product at the size that enters the net. To be closed."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream,
        preprocessing: Preprocessing,
        *,
        size: tuple[int, int],
        augment: Augment,
    ) -> None:
        self._upstream, self._preprocessing = upstream, preprocessing
        self._size, self._augment = size, augment
        cv2.setNumThreads(1)  # clips are decoded by threads of our own
        self._pool, self._shards = open_pool("clips"), OpenShards(store)

    def close(self) -> None:
        """Stop the threads and close their shards."""
        self._pool.shutdown(cancel_futures=True)
        self._shards.close()

    def batches(self, wanted: Iterable[Sequence[Wanted]]) -> Iterator[Tensor]:
        """(N, T, h, w, C) of each batch, in order: uint8 RGB, or flow as float32 px.

        Raises StorageError for a clip that can't be used.
        """
        for clips in read_ahead(self._pool, self.read, wanted):
            yield torch.from_numpy(np.stack(clips))

    def read(self, wanted: Wanted) -> NDArray[Any]:
        """(T, h, w, C) of one clip. Raises StorageError, naming it, where it can't be used."""
        clip = wanted.clip
        try:
            shard = self._shards.open(f"{self._upstream.path}/{self._upstream.shard_name}-{clip.unit:06d}.tar")
            frames = self._upstream.decode(read_sample(shard, clip.span))
            said = (self._upstream.frames, *clip.size, self._upstream.num_channels)
            if frames.shape != said:
                raise ReelmillError(f"it holds {frames.shape}, and its index and card say {said} (T, H, W, C)")
            return self._view(self._preprocessing.fit(frames), wanted.seed)
        except (ReelmillError, tarfile.TarError, OSError) as error:
            # of the storage, because one worker of several may be alone with it
            raise StorageError(f"{self._upstream.path}: clip {clip.clip_id} can't be used: {error}") from None

    def _view(self, frames: np.ndarray, seed: int | None) -> NDArray[Any]:
        """What enters the net of a clip's frames, of flow as px: a level can't be scaled."""
        meanings = self._upstream.level_meanings
        if meanings is not None:
            frames = meanings[frames]
        frame = (frames.shape[1], frames.shape[2])
        if seed is None:
            (view,) = cut(frames, self._size, views_of(frame, self._size, crops=1, flip=False))
            return np.ascontiguousarray(view)
        drawn = draw(self._augment, frame=frame, size=self._size, rng=np.random.default_rng(seed))
        return augmented(frames, drawn, size=self._size)
