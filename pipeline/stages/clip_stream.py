"""The clips of a shard, read and decoded ahead of whoever consumes them, in the shard's order."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.shards import read_shard
from pipeline.threads import num_cores
from pipeline.video.encode import Encoding, decode_frames
from schemas.errors import ReelmillError

MAX_DECODERS = 8  # threads; cv2.imdecode releases the GIL
WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Clip:
    """One sample of a shard: its KEY.json, and its pixels or the sentence that says why it has none."""

    clip_id: str
    video_id: str
    start_s: float
    center_s: float
    end_s: float
    label_ids: tuple[int, ...]
    pixels: np.ndarray | None  # (T, H, W, 3) uint8 RGB, of the size that the net takes
    problem: str = ""


def clips_ahead(
    shard: pa.NativeFile, *, encoding: Encoding, fit: Callable[[np.ndarray], np.ndarray], depth: int
) -> Generator[Clip, None, None]:
    """Yield the clips of a shard in order; at most `depth` are read ahead of the consumer.

    `fit` brings decoded frames (T, H, W, 3) to the net's size. Raises ReelmillError for a shard that is no shard.
    """
    ahead: queue.Queue[Future[Clip] | BaseException | None] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: Future[Clip] | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                return ahead.put(item, timeout=WAIT_S)

    def read() -> None:
        try:
            for key, members in read_shard(shard):
                if stop.is_set():
                    return
                put(pool.submit(_decode, key, members, encoding, fit))
            put(None)
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)

    with ThreadPoolExecutor(min(MAX_DECODERS, num_cores()), thread_name_prefix="decode") as pool:
        reader = threading.Thread(target=read, name="read-shard", daemon=True)
        reader.start()
        try:
            while (item := ahead.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item.result()
        finally:
            stop.set()
            reader.join()


def _decode(key: str, members: dict[str, bytes], encoding: Encoding, fit: Callable[[np.ndarray], np.ndarray]) -> Clip:
    facts = _facts(key, members)
    try:
        return Clip(**facts, pixels=fit(decode_frames(members, encoding)))
    except ReelmillError as error:
        return Clip(**facts, pixels=None, problem=f"clip {key} can't be used: {error}")


def _facts(key: str, members: dict[str, bytes]) -> dict[str, Any]:
    """What KEY.json says of a clip; without it nobody knows whose clip it is, and the unit can't be made."""
    try:
        row = json.loads(members["json"])
        return {
            "clip_id": str(row["clip_id"]),
            "video_id": str(row["video_id"]),
            "start_s": float(row["start_s"]),
            "center_s": float(row["center_s"]),
            "end_s": float(row["end_s"]),
            "label_ids": tuple(int(label) for label in row["label_ids"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ReelmillError(
            f"sample {key}: its json is missing or damaged ({error!r}); the shard was damaged after it was written"
        ) from None
