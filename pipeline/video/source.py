"""The bytes of a video, wherever it lies, and a count of those taken from there.

It is read by blocks, of which the last ones stay in memory, so that neither small steps back and forth (sound and
pictures far apart, an index at the end) nor the second pass over what fits read anything again. A request to an object
store costs as much time as a megabyte does: there the blocks are larger, more of them are kept, and a request doubles
its blocks as long as one follows on the other. A window needs few blocks, and the whole of a video few requests.
"""

from __future__ import annotations

import io
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from pipeline.storage.patience import MOUNT_IS_AWAY
from pipeline.video.errors import VideoError
from schemas.errors import StorageError

if TYPE_CHECKING:
    from pipeline.storage.ranges import RemoteFile


class _Blocks(NamedTuple):
    num_bytes: int  # of one
    at_once: int  # how many one request asks for at most
    kept: int  # how many stay in memory


ON_DISK = _Blocks(1 << 16, at_once=1, kept=256)  # 16 MiB; the system's own cache is behind it
ON_STORE = _Blocks(1 << 18, at_once=8, kept=256)  # 64 MiB


class Source:
    """An open video: a seekable file, how many bytes have been taken from where it lies, and how long that took."""

    def __init__(self, file: _Ranges) -> None:
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
    it may be away for minutes. Raises StorageError where it stays away, and where a mount says that it is not there,
    also at the end of the block where what reads the file has taken that for the file's fault: it is never the video's.
    """
    if "://" not in uri:
        with _input_errors(uri):
            local = Path(uri).open("rb", buffering=0)
        with local:
            with _input_errors(uri):
                ranges = _Ranges(local, uri, ON_DISK, on_storage=lambda is_asked: None)
            try:
                yield Source(ranges)
            finally:
                if ranges.trouble is not None:
                    raise ranges.trouble from None
        return
    on_storage(True)
    from pipeline.store import open_for_reading  # pyarrow.fs takes a quarter of a second: only for who needs it

    with _input_errors(uri.partition("?")[0]):
        file = open_for_reading(uri)
        on_storage(False)
    try:
        with file:
            yield Source(_Ranges(file, uri.partition("?")[0], ON_STORE, on_storage))
    finally:
        if (trouble := getattr(file, "trouble", None)) is not None:
            raise trouble from None


@contextmanager
def _input_errors(where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise VideoError("missing", "there is no such file") from None
    except IsADirectoryError:
        raise VideoError("unreadable", "this is a folder, not a file") from None
    except (MemoryError, StorageError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MOUNT_IS_AWAY:
            raise _not_the_files(where, error) from None
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise VideoError("unreadable", f"the file can't be opened ({what})") from None


def _not_the_files(where: str, error: OSError) -> StorageError:
    return StorageError(
        f"{where}: can't be read now ({(error.strerror or str(error)).lower()}), which is not the file's fault: see to "
        "the mount that it lies on, then run the same command again"
    )


class _Ranges(io.RawIOBase):
    """An open file, read by whole blocks, the last ones kept."""

    def __init__(
        self, file: io.RawIOBase | BinaryIO | RemoteFile, name: str, blocks: _Blocks, on_storage: Callable[[bool], None]
    ) -> None:
        self.name = name  # libav looks at its ending
        self.num_bytes_read = 0
        self.reading_s = 0.0
        self.trouble: StorageError | None = None  # of a mount; what reads the file may swallow it
        self._file = file
        self._blocks = blocks
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
            number, offset = divmod(self._at, self._blocks.num_bytes)
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
        size = self._blocks.num_bytes
        self._num_ahead = min(2 * self._num_ahead, self._blocks.at_once) if number == self._next else 1
        numbers = range(number, min(number + self._num_ahead, -(-self._num_bytes // size)))
        numbers = range(number, next((other for other in numbers if other in self._kept), numbers.stop))
        self._next = numbers.stop
        data = self._ask(number * size, min(numbers.stop * size, self._num_bytes))
        for each in numbers:
            # a copy: a part of a larger piece would keep all of it in memory
            self._kept[each] = data if len(numbers) == 1 else data[(each - number) * size :][:size]
        while len(self._kept) > self._blocks.kept:
            self._kept.popitem(last=False)

    def _ask(self, start: int, stop: int) -> bytes:
        if self.trouble is not None:
            raise self.trouble
        began_s = time.monotonic()
        self._on_storage(True)
        self._file.seek(start)
        try:
            data = self._file.read(stop - start) or b""
        except OSError as error:
            if error.errno in MOUNT_IS_AWAY:
                self.trouble = _not_the_files(self.name, error)
                raise self.trouble from None
            raise
        finally:
            self._on_storage(False)
        self.reading_s += time.monotonic() - began_s
        self.num_bytes_read += len(data)
        if len(data) < stop - start:
            raise OSError(f"{stop - start} bytes were asked for, and {len(data)} came")
        return bytes(data)
