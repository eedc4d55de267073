"""The samples of a shard, read and decoded ahead of whoever consumes them, in the shard's order.

Two bounds keep what is ahead from piling up: a number of samples and a number of decoded bytes.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.shards import read_shard
from pipeline.threads import num_cores
from schemas.errors import ReelmillError

MAX_DECODERS = 64  # threads; cv2.imdecode releases the GIL
SAMPLES_AHEAD = 4  # for each thread
BYTES_AHEAD = 1 << 30  # decoded; a larger sample is decoded alone
WAIT_S = 0.2

Members = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Clip:
    """What KEY.json says of a sample of a clips or flow product."""

    clip_id: str
    video_id: str
    start_s: float
    center_s: float
    end_s: float
    label_ids: tuple[int, ...]
    num_real: int  # frames before the video is over and the tail's padding begins
    height_px: int  # as stored
    width_px: int


Decoded = tuple[Clip, np.ndarray | str]  # its frames, or the sentence that says why it has none


class ClipStream:
    """Iterates over the samples of a shard, in order: `with ClipStream(...) as clips: for clip, frames in clips: …`

    `decode` gives the frames of a sample's members; where it raises ReelmillError, the sample has a sentence instead.
    `num_bytes` says beforehand how large they will be. Iterating raises ReelmillError for a sample whose json is
    missing or damaged, tarfile.TarError for a shard that is none.
    """

    def __init__(
        self,
        shard: pa.NativeFile,
        *,
        decode: Callable[[Clip, Members], np.ndarray],
        num_bytes: Callable[[Clip], int],
        max_bytes: int = BYTES_AHEAD,
    ) -> None:
        self._shard, self._decode, self._num_bytes = shard, decode, num_bytes
        num_threads = min(MAX_DECODERS, num_cores())
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
        self._ahead: queue.Queue[tuple[Future[Decoded], int] | BaseException | None]
        self._ahead = queue.Queue(maxsize=SAMPLES_AHEAD * num_threads)
        self._room = _Room(max_bytes)
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="read-shard", daemon=True)

    def __enter__(self) -> ClipStream:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._reader.join()
        self._pool.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Decoded]:
        while (item := self._ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            decoded, size = item
            yield decoded.result()
            self._room.give_back(size)

    def _read(self) -> None:
        try:
            for key, members in read_shard(self._shard):
                clip = clip_of(key, members)
                size = self._num_bytes(clip)
                while not self._room.take(size):
                    if self._stop.is_set():
                        return
                if self._stop.is_set():
                    return
                self._put((self._pool.submit(self._decoded, clip, members), size))
            self._put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            self._put(error)

    def _put(self, item: tuple[Future[Decoded], int] | BaseException | None) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                return self._ahead.put(item, timeout=WAIT_S)

    def _decoded(self, clip: Clip, members: Members) -> Decoded:
        try:
            return clip, self._decode(clip, members)
        except ReelmillError as error:
            return clip, f"clip {clip.clip_id} can't be used: {error}"


class _Room:
    """Bytes that may be taken. One who finds all of them there may take more than there are."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes, self._taken = num_bytes, 0
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Waits a moment where there is no room; whether there was."""
        with self._changed:
            fits = self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._num_bytes, WAIT_S)
            if fits:
                self._taken += size
            return fits

    def give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify()


def clip_of(key: str, members: Members) -> Clip:
    """What KEY.json says. Raises ReelmillError where it is missing or damaged: nobody knows whose clip it is."""
    try:
        row: dict[str, Any] = json.loads(members["json"])
        clip = Clip(
            clip_id=str(row["clip_id"]),
            video_id=str(row["video_id"]),
            start_s=float(row["start_s"]),
            center_s=float(row["center_s"]),
            end_s=float(row["end_s"]),
            label_ids=tuple(int(label) for label in row["label_ids"]),
            # a field lies between two frames
            num_real=int(row["num_real_fields"]) + 1 if "num_real_fields" in row else int(row["num_real_frames"]),
            height_px=int(row["height_px"]),
            width_px=int(row["width_px"]),
        )
        if min(clip.num_real, clip.height_px, clip.width_px) < 1 or not clip.start_s <= clip.center_s <= clip.end_s:
            raise ValueError("its numbers are none of a clip")
        return clip
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ReelmillError(
            f"sample {key}: its json is missing or damaged ({error!r}); the shard was damaged after it was written"
        ) from None
