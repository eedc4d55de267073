"""What a unit costs, measured where it is made: each stage holds a `Meter` and tells it what it does.

    meter.begin()
    with meter.reading(): …          # waiting for input
    with meter.writing(): …          # waiting for output
    work = meter.end(receipt, node=…)

Durations are differences of this machine's monotonic clock, and nothing of them goes into a product.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, cast

from pipeline.process import cpu_s
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt
from schemas.work import UnitWork

Aside = Literal["reading", "writing"]


class Meter:
    """Measures one unit at a time, from the thread that makes it.

    `child` gives the process id of a decoder that works for the stage, or None while there is none.
    """

    def __init__(self, *, child: Callable[[], int | None] = lambda: None) -> None:
        self._child = child
        self._opening_s = 0.0
        self.begin()

    def opened(self, seconds: float) -> None:
        """What opening the stage took; the next unit tells."""
        self._opening_s = seconds

    def begin(self) -> None:
        """A unit is taken up. What was measured of one that was given up is forgotten."""
        self._aside_s: dict[Aside, float] = {"reading": 0.0, "writing": 0.0}
        self._now_aside = False
        self._device_s: float | None = None
        self._bytes_in = self._frames_decoded = self._frames_used = 0
        self._reasons: Counter[str] = Counter()
        self._spans: dict[str, tuple[float, float]] = {}
        self._cpu_s = self._cpu()
        self._began_s = time.monotonic()

    def end(self, receipt: Receipt, *, node: str = "") -> UnitWork:
        """The unit stands; what it cost."""
        wall_s = time.monotonic() - self._began_s
        reading_s, writing_s = self._aside_s["reading"], self._aside_s["writing"]
        opening_s, self._opening_s = self._opening_s, 0.0
        return UnitWork(
            product=receipt.product,
            unit=receipt.unit,
            node=node,
            pid=os.getpid(),
            wall_s=wall_s,
            busy_s=max(0.0, wall_s - reading_s - writing_s),
            reading_s=reading_s,
            writing_s=writing_s,
            opening_s=opening_s,
            device_s=self._device_s,
            cpu_s=max(0.0, self._cpu() - self._cpu_s),
            bytes_in=self._bytes_in,
            bytes_out=sum(entry.bytes for entry in receipt.files),
            videos=sum(receipt.rows.values()),
            items=receipt.items,
            source_s=sum(stop_s - start_s for start_s, stop_s in self._spans.values()),
            frames_decoded=self._frames_decoded,
            frames_used=self._frames_used,
            rows={str(status): count for status, count in receipt.rows.items()},
            reasons=dict(self._reasons),
        )

    # ---------------------------------------------------------------- what a stage says

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The block waits for input."""
        with self._aside("reading"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The block waits for output."""
        with self._aside("writing"):
            yield

    def output(self, file: BinaryIO) -> BinaryIO:
        """The same file; the time that its writes take counts as waiting for output."""
        return cast(BinaryIO, _TimedFile(file, self))

    def waited(self, seconds: float) -> None:
        """So long the computing waited for its input, as somebody else has measured."""
        self._aside_s["reading"] += seconds

    def read(self, num_bytes: int) -> None:
        self._bytes_in += num_bytes

    def frames(self, *, decoded: int, used: int) -> None:
        self._frames_decoded += decoded
        self._frames_used += used

    def device(self, seconds: float) -> None:
        """The GPU was at it for so long, by its own clock."""
        self._device_s = (self._device_s or 0.0) + seconds

    def covers(self, video_id: str, start_s: float, end_s: float, *, shown: float = 1.0) -> None:
        """A clip of this video, of which a share is `shown` before the tail's padding begins.

        Seconds of video are counted from a video's first start to its last end.
        """
        stop_s = start_s + min(1.0, shown) * (end_s - start_s)
        first_s, last_s = self._spans.get(video_id, (start_s, stop_s))
        self._spans[video_id] = min(first_s, start_s), max(last_s, stop_s)

    def ledger(self, rows: Sequence[LedgerRow]) -> None:
        """What became of the unit's rows."""
        self._reasons.update(row.reason or row.status for row in rows if row.status in ("failed", "partial"))

    # ---------------------------------------------------------------- clocks

    @contextmanager
    def _aside(self, what: Aside) -> Iterator[None]:
        if self._now_aside:  # inside another: the outer one counts
            yield
            return
        self._now_aside = True
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._aside_s[what] += time.monotonic() - began_s
            self._now_aside = False

    def _cpu(self) -> float:
        """CPU seconds of this process, of the children that have ended, and of the decoder that lives."""
        total_s = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            total_s += usage.ru_utime + usage.ru_stime
        pid = self._child()
        return total_s + (cpu_s(pid) if pid is not None else 0.0)


class _TimedFile:
    """A file whose writes are timed."""

    def __init__(self, file: BinaryIO, meter: Meter) -> None:
        self._file, self._meter = file, meter

    def write(self, data: bytes) -> int:
        with self._meter.writing():
            return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
