"""Reading an object by ranges, through the server's absences."""

from __future__ import annotations

import errno
import io
import os
from typing import Any, cast

import pyarrow.fs as pafs

from pipeline.storage.patience import Truncated, is_denied, persist, reason
from schemas.errors import StorageError

PART_BYTES = 32 << 20  # what one request asks for at most, and so what one failure costs


class RemoteFile(io.RawIOBase):
    """A seekable file over an object. A read that fails for a moment is made again, on the same object or not at all.

    Each `read` is one ranged request: wrap it in a BufferedReader where reads are small. Raises FileNotFoundError
    where there is no object, and StorageError where storage refuses, stays away, or has another object by then; that
    error is kept in `trouble`, for callers behind native code that swallows it.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str, where: str) -> None:
        super().__init__()
        self.trouble: StorageError | None = None
        self._filesystem = filesystem
        self._path = path
        self._where = where
        self._position = 0
        self._file: Any = None
        self._file = persist(self._open, where, doing="read")
        self._size = int(self._file.size())
        self.identity = self._identify(self._file)  # size, and ETag and time where the storage has them

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """The object's bytes."""
        return self._size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"a negative position: {start + offset}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        while wanted:
            part = self._read_part(self._position, min(wanted, PART_BYTES))
            self._position += len(part)
            wanted -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()

    def _read_part(self, offset: int, size: int) -> bytes:
        if self.trouble is not None:  # native code that swallowed it asks on
            raise self.trouble
        is_lost = False

        def act() -> bytes:
            nonlocal is_lost
            if is_lost:
                self._reopen()
            is_lost = True
            data = bytes(self._file.read_at(size, offset))
            if len(data) != size:
                raise Truncated(f"{len(data)} bytes came where {size} are")
            return data

        try:
            return persist(act, self._where, doing="read")
        except StorageError as error:
            self.trouble = error
            raise
        except OSError as error:  # it was there when it was opened
            self.trouble = StorageError(f"{self._where}: it went away while it was read; run the same command again")
            raise self.trouble from error

    def _open(self) -> Any:
        return self._filesystem.open_input_file(self._path)

    def _reopen(self) -> None:
        file = self._open()
        if self._identify(file) != self.identity:
            raise StorageError(f"{self._where}: it was changed while it was read; run the same command again")
        self._file = file

    def _identify(self, file: Any) -> tuple[object, ...]:
        metadata = file.metadata() or {}
        return (int(file.size()), *(metadata.get(key) for key in (b"ETag", "ETag", b"Last-Modified", "Last-Modified")))


def open_object(filesystem: pafs.FileSystem, path: str, where: str) -> RemoteFile:
    """An object that may be at fault itself, as one of a million videos: not to be mixed up with storage that is.

    Raises FileNotFoundError where there is none and PermissionError where it is denied, though its bucket answers;
    else StorageError: a wrong key or a bucket that is not there would fail every object.
    """
    try:
        return RemoteFile(filesystem, path, where)
    except FileNotFoundError:
        if _bucket_type(filesystem, path, where) == pafs.FileType.NotFound:
            raise StorageError(f"{where}: there is no such bucket; check the address") from None
        raise
    except StorageError as error:
        if not _is_refused(error):
            raise
        try:
            _bucket_type(filesystem, path, where)
        except StorageError:
            raise error from None
    # once more: a role's credentials may have come too late for the first request of this process
    try:
        return RemoteFile(filesystem, path, where)
    except StorageError as error:
        if not _is_refused(error):
            raise
        said = reason(cast(OSError, error.__cause__))
        raise PermissionError(errno.EACCES, f"storage denies it: {said}", where) from None


def _is_refused(error: StorageError) -> bool:
    return isinstance(error.__cause__, OSError) and is_denied(error.__cause__)


def _bucket_type(filesystem: pafs.FileSystem, path: str, where: str) -> pafs.FileType:
    bucket = path.partition("/")[0]
    if not bucket:  # hdfs has none
        return pafs.FileType.Directory
    return persist(lambda: filesystem.get_file_info(bucket).type, where, doing="look")
