"""Runs a net over a stream of clips: batches across videos, few fixed shapes, the accelerator never idle for a copy.

On a GPU a batch is on its way there, and its results back, while the next one is put together: two are under way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.backbones.network import Network, clips_at_once
from pipeline.backbones.precision import Precision, prepare
from schemas.errors import ReelmillError

UNDER_WAY = 2  # batches on a GPU


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch whose results are being computed or copied."""

    results: Tensor  # (N, …) float32 on the host, whole once `done` has happened
    num_clips: int  # the rest is padding
    began: Any  # torch.cuda.Event, when the GPU came to it; None on a CPU
    done: Any  # torch.cuda.Event, when the results were on the host; None on a CPU


class Engine:
    """A net, made ready for a device and a precision.

    `layer` is pooled to (D,), or given as its map (C, T, H, W) with `dense`. `meaning` is the px of each of flow's 256
    levels, where clips are levels. `waited_s` counts the seconds for which `run` waited for its inputs, `device_s`
    those for which the GPU was at its batches, by its own clock; None on a CPU.
    """

    def __init__(
        self,
        net: Network,
        *,
        layer: str,
        dense: bool = False,
        precision: Precision,
        on: torch.device,
        batch_size: int = 16,
        meaning: np.ndarray | None = None,
    ) -> None:
        self._net = prepare(net, precision, on)
        self._layer, self._dense, self._precision, self._on = layer, dense, precision, on
        self._batch_size = batch_size
        self._meaning = None if meaning is None else torch.from_numpy(meaning).to(on)
        self.waited_s = 0.0
        self.device_s: float | None = 0.0 if on.type == "cuda" else None

    def run(self, clips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """For each clip (T, h, w, C), in order: (D,) or (C, T, H, W) float32.

        Out of memory halves the batch, for this stream and those after it. Raises ReelmillError where a single clip
        is too much.
        """
        flights: deque[_Flight] = deque()
        for batch in self._batches(clips):
            start = 0
            while start < len(batch):
                part = batch[start : start + self._batch_size]
                flight = self._start_or_halve(part, is_alone=not flights)
                if flight is not None:
                    flights.append(flight)
                    start += len(part)
                # what is under way lands before less is tried: its memory is free then
                while len(flights) > (UNDER_WAY if self._on.type == "cuda" and flight is not None else 0):
                    yield from self._landed(flights.popleft())
        while flights:
            yield from self._landed(flights.popleft())

    def _batches(self, clips: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Runs of clips of one shape."""
        batch: list[np.ndarray] = []
        for clip in self._timed(clips):
            if batch and clip.shape != batch[0].shape:
                yield batch
                batch = []
            batch.append(clip)
            if len(batch) >= self._batch_size:  # at once: a full batch waits for nobody
                yield batch
                batch = []
        if batch:
            yield batch

    def _timed(self, clips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        source = iter(clips)
        while True:
            began_s = time.perf_counter()
            clip = next(source, None)
            self.waited_s += time.perf_counter() - began_s
            if clip is None:
                return
            yield clip

    def _start_or_halve(self, clips: Sequence[np.ndarray], *, is_alone: bool) -> _Flight | None:
        try:
            return self._start(clips)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if len(clips) == 1 and is_alone:
                raise ReelmillError(f"out of memory with a single clip ({error})") from None
            if is_alone:
                self._batch_size = len(clips) // 2
        # outside the handler, whose traceback holds what was computed so far
        if self._on.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _start(self, clips: Sequence[np.ndarray]) -> _Flight:
        began = torch.cuda.Event(enable_timing=True) if self._on.type == "cuda" else None
        batch = self._stacked(clips, began)
        parts = (self._input(part) for part in batch.split(clips_at_once(len(batch), self._on)))
        results = self._net.features_of(parts, layer=self._layer, dense=self._dense).float()
        if self._on.type != "cuda":
            return _Flight(results, len(clips), None, None)
        host = torch.empty(results.shape, dtype=torch.float32, pin_memory=True)
        host.copy_(results, non_blocking=True)
        done = torch.cuda.Event(enable_timing=True)
        done.record()
        return _Flight(host, len(clips), began, done)

    def _landed(self, flight: _Flight) -> Iterator[np.ndarray]:
        if flight.done is not None:
            flight.done.synchronize()
        if flight.began is not None:
            self.device_s = (self.device_s or 0.0) + flight.began.elapsed_time(flight.done) / 1000  # milliseconds
        yield from flight.results.numpy()[: flight.num_clips]

    def _input(self, clips: Tensor) -> Tensor:
        """N×T×h×w×C as stored -> N×C×T×h×w as the net takes it."""
        x = self._net.spec.preprocessing.normalise(clips, meaning=self._meaning)
        return x.to(self._precision.dtype)

    def _stacked(self, clips: Sequence[np.ndarray], began: Any) -> Tensor:
        """(N, T, h, w, C) on the device. On a GPU N is a power of two: few shapes, so few algorithms to look up.

        The event `began`, if there is one, is put before the copy to the device.
        """
        is_cuda = self._on.type == "cuda"
        num = 1 << (len(clips) - 1).bit_length() if is_cuda else len(clips)
        first = clips[0]
        dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
        batch = torch.empty((num, *first.shape), dtype=dtype, pin_memory=is_cuda)
        rows = batch.numpy()
        for row, clip in zip(rows, clips, strict=False):
            row[...] = clip  # views of a frame are cut here, in the one copy that there is
        rows[len(clips) :] = 0
        if began is not None:
            began.record()
        return batch.to(self._on, non_blocking=True)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
