"""The bytes of a video, wherever it lies, and a count of those taken from there.

A local file is read as libav asks: the system's own cache is behind it. An object is read by ranges, and the last
CACHE_BYTES of it stay in memory: a request costs as much time as a megabyte does, so small steps back and forth (sound
and pictures far apart, an index at the end) should cost none, and the second pass over a video that fits should not
read it again. A range is one block, and doubles up to MAX_BLOCKS as long as one follows on the other: a window needs
few blocks, and the whole of a video few requests.
"""

from __future__ import annotations

import io
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pipeline.video.errors import VideoError
from schemas.errors import StorageError

if TYPE_CHECKING:
    from pipeline.storage.ranges import RemoteFile

BLOCK_BYTES = 1 << 18
MAX_BLOCKS = 8
CACHE_BYTES = 64 << 20


class Source:
    """An open video: a seekable file, how many bytes have been taken from where it lies, and how long that took."""

    def __init__(self, file: _Local | _Ranges) -> None:
        self._file = file

    @property
    def file(self) -> BinaryIO:
        return cast(BinaryIO, self._file)

    @property
    def num_bytes_read(self) -> int:
        return self._file.num_bytes_read

    @property
    def reading_s(self) -> float:
        return self._file.reading_s


@contextmanager
def open_source(uri: str, *, on_storage: Callable[[bool], None] = lambda is_asked: None) -> Iterator[Source]:
    """Open a local path, or the URI of an object. Raises VideoError "missing" or "unreadable".

    on_storage: called with True before a remote storage is asked for something and with False when it has answered:
    it may be away for minutes. Raises StorageError where it stays away, also at the end of the block where what reads
    the file has taken that for the file's fault: it is never the video's.
    """
    if "://" not in uri:
        with _input_errors():
            local = _Local(uri)
        with local:
            yield Source(local)
        return
    from pipeline.store import open_for_reading  # pyarrow.fs takes a quarter of a second: only for who needs it

    with _input_errors():
        on_storage(True)
        file = open_for_reading(uri)
        on_storage(False)
    try:
        with file:
            yield Source(_Ranges(file, uri.partition("?")[0], on_storage))
    finally:
        if (trouble := getattr(file, "trouble", None)) is not None:
            raise trouble from None


@contextmanager
def _input_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise VideoError("missing", "there is no such file") from None
    except IsADirectoryError:
        raise VideoError("unreadable", "this is a folder, not a file") from None
    except (MemoryError, StorageError):
        raise
    except Exception as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise VideoError("unreadable", f"the file can't be opened ({what})") from None


class _Local(io.FileIO):
    """A local file that counts."""

    num_bytes_read = 0
    reading_s = 0.0

    def read(self, size: int | None = -1, /) -> bytes:
        began_s = time.monotonic()
        data = super().read(-1 if size is None else size) or b""
        self.reading_s += time.monotonic() - began_s
        self.num_bytes_read += len(data)
        return data


class _Ranges(io.RawIOBase):
    """An open file of `path`, read by whole ranges, the last ones kept."""

    def __init__(self, file: BinaryIO | RemoteFile, path: str, on_storage: Callable[[bool], None]) -> None:
        self.name = path  # libav looks at its ending, as it does at a local file's
        self.num_bytes_read = 0
        self.reading_s = 0.0
        self._file = file
        self._on_storage = on_storage
        self._num_bytes = file.seek(0, os.SEEK_END)
        self._at = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # blocks by number; the one used last is last
        self._next = -1  # the block after those of the last request
        self._num_ahead = 1  # blocks of the last request

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._num_bytes}[whence]
        if start + offset < 0:
            raise OSError(f"there is nothing before the start of the file: {start + offset}")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer, but for the end of the file."""
        view = memoryview(buffer)
        done = 0
        while done < len(view) and self._at < self._num_bytes:
            number, offset = divmod(self._at, BLOCK_BYTES)
            piece = self._block(number)[offset : offset + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._kept:
            self._fetch(number)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _fetch(self, number: int) -> None:
        """One request, for the block and as many after it as the reading so far makes likely."""
        self._num_ahead = min(2 * self._num_ahead, MAX_BLOCKS) if number == self._next else 1
        numbers = range(number, min(number + self._num_ahead, -(-self._num_bytes // BLOCK_BYTES)))
        numbers = range(number, next((other for other in numbers if other in self._kept), numbers.stop))
        self._next = numbers.stop
        start, stop = number * BLOCK_BYTES, min(numbers.stop * BLOCK_BYTES, self._num_bytes)
        began_s = time.monotonic()
        self._on_storage(True)
        self._file.seek(start)
        try:
            data = memoryview(self._file.read(stop - start))
        finally:
            self._on_storage(False)
        self.reading_s += time.monotonic() - began_s
        if len(data) < stop - start:
            raise OSError(f"{stop - start} bytes were asked for, and {len(data)} came")
        self.num_bytes_read += len(data)
        for each in numbers:
            # a copy: a part of a larger piece would keep all of it in memory
            self._kept[each] = bytes(data[(each - number) * BLOCK_BYTES :][:BLOCK_BYTES])
        while len(self._kept) > CACHE_BYTES // BLOCK_BYTES:
            self._kept.popitem(last=False)
