"""Where a video's samples wait until it is known how the video ends.

A tar can't take members back, and a video that dies half-way must leave none: how far it came depends on the machine,
the tree must not. The spool stays in memory up to SPOOL_BYTES, then goes on in a nameless file next to the output, on
the disk that has to hold the samples anyway.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, BinaryIO, Protocol, cast

from pipeline.store import TEMP_FOLDER, Store
from pipeline.video import wire
from pipeline.video.errors import VideoError
from pipeline.video.guard import TRY_AGAIN
from pipeline.video.wire import Outcome
from schemas.errors import StorageError

SPOOL_BYTES = 64 << 20


class Sample(Protocol):
    """What can be written as a message of `pipeline.video.wire`."""

    def message(self) -> tuple[dict[str, Any], Sequence[bytes]]: ...


def try_twice(make: Callable[[], Outcome]) -> Outcome:
    """`make()`, once more where it failed for a reason that may come from outside the video."""
    try:
        return make()
    except VideoError as error:
        if error.reason not in TRY_AGAIN:
            raise
    return make()


class Spool:
    """One video's samples, as messages (header, blobs), until it is known whether they count."""

    def __init__(self, store: Store, product: str) -> None:
        self._folder = store.path(f"{product}/{TEMP_FOLDER}") if store.is_local else tempfile.gettempdir()
        self._open()

    def _open(self) -> None:
        # leaves nothing behind: the file has no name, or loses it, the moment it is made
        spooled = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=self._folder)
        self._file = cast(BinaryIO, spooled)
        self.num_messages = 0

    def fill(self, samples: Generator[Sample, None, Outcome]) -> Outcome:
        """Take in all samples of a video, in place of what was there; returns the generator's outcome."""
        self.clear()
        with closing(samples):
            while True:
                try:
                    sample = next(samples)
                except StopIteration as stop:
                    return cast(Outcome, stop.value)
                self.add(sample)

    def messages(self) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
        """(header, blobs) of each sample, in order."""
        self._file.seek(0)
        take = wire.exactly(self._file)
        for _ in range(self.num_messages):
            yield wire.read(take)

    def clear(self) -> None:
        self._close()
        self._open()

    def add(self, sample: Sample) -> None:
        """Take in one sample more. Raises StorageError where the disk is full."""
        try:
            wire.write(self._file, *sample.message())
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            raise StorageError(
                f"{self._folder}: can't hold a video's clips here ({what}); make room, then run the same command again"
            ) from error
        self.num_messages += 1

    def _close(self) -> None:
        with suppress(OSError):  # a full disk may refuse the last buffered bytes; nobody needs them now
            self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
