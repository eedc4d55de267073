"""Batches of decoded clips, read from shards in any order and decoded ahead by threads."""

from __future__ import annotations

import tarfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.views import cut, views_of
from pipeline.shards import read_sample
from pipeline.stages.clip_inputs import Upstream
from pipeline.store import Store
from pipeline.training.clips.augment import augmented, draw
from pipeline.training.clips.dataset import StoredClip
from schemas.errors import ReelmillError, StorageError
from schemas.heads import Augment

BATCHES_AHEAD = 2
OPEN_SHARDS = 16  # for each thread


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
        self._store, self._upstream, self._preprocessing = store, upstream, preprocessing
        self._size, self._augment = size, augment
        cv2.setNumThreads(1)  # clips are decoded by threads of our own
        # as many as torch has: workers on one machine share its cores
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="clips")
        self._local = threading.local()

    def close(self) -> None:
        """Stop the threads, which lets go of their shards."""
        self._pool.shutdown(cancel_futures=True)

    def batches(self, wanted: Iterable[Sequence[Wanted]]) -> Iterator[Tensor]:
        """(N, T, h, w, C) of each batch, in order: uint8 RGB, or flow as float32 px.

        Raises StorageError for a clip that can't be used.
        """
        ahead: deque[list[Future[NDArray[Any]]]] = deque()
        try:
            for batch in wanted:
                ahead.append([self._pool.submit(self.read, item) for item in batch])
                if len(ahead) > BATCHES_AHEAD:
                    yield _together(ahead.popleft())
            while ahead:
                yield _together(ahead.popleft())
        finally:
            for futures in ahead:
                for future in futures:
                    future.cancel()

    def read(self, wanted: Wanted) -> NDArray[Any]:
        """(T, h, w, C) of one clip. Raises StorageError, naming it, where it can't be used."""
        clip = wanted.clip
        try:
            frames = self._upstream.decode(read_sample(self._open(clip.unit), clip.span))
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

    def _open(self, unit: int) -> pa.NativeFile:
        """A shard, kept open: its opening is a round trip to an object store."""
        files: OrderedDict[int, pa.NativeFile] = self._local.__dict__.setdefault("files", OrderedDict())
        if unit not in files:
            upstream = self._upstream
            files[unit] = self._store.open(f"{upstream.path}/{upstream.shard_name}-{unit:06d}.tar")
            if len(files) > OPEN_SHARDS:
                files.popitem(last=False)[1].close()
        files.move_to_end(unit)
        return files[unit]


def _together(futures: Sequence[Future[NDArray[Any]]]) -> Tensor:
    return torch.from_numpy(np.stack([future.result() for future in futures]))
