"""Where a dataset lives: any local path or pyarrow filesystem URI, with atomic writes.

A file becomes visible whole or not at all: on local disk it is written under a temporary name, synced and
renamed; on an object store it is staged in a nameless local file and sent whole (see `pipeline.storage.upload`). A
remote storage that is away for a moment is waited for (see `pipeline.storage.patience`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.storage.places import resolve, shown
from pipeline.storage.ranges import RemoteFile, open_object
from pipeline.storage.remote import Patient
from pipeline.storage.upload import upload
from schemas.errors import ReelmillError, StorageError
from schemas.receipt import FileEntry

TEMP_FOLDER = "_tmp"  # in each product folder of a local store; swept when a run starts and when it ends


def open_for_reading(uri: str) -> BinaryIO | RemoteFile:
    """A seekable file for reading ranges of a local file or an object; wrap it where reads are small.

    Raises OSError as `open` does for what is wrong with this one file (there is none, it is denied), StorageError
    where a remote storage stays away, has another object by then, or would refuse any.
    """
    filesystem, path = resolve(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return cast(BinaryIO, Path(path).open("rb"))
    remote = patient(filesystem)
    return open_object(remote.filesystem, path, remote.where(path))


def patient(filesystem: pafs.FileSystem) -> Patient:
    """What stands behind a remote filesystem of `resolve`."""
    return cast(Patient, cast(pafs.PyFileSystem, filesystem).handler)


class Store:
    """A dataset's root folder. Paths given to its methods are relative to it, with forward slashes."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._root = resolve(uri)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)  # filesystems hold connections; only the address travels

    @property
    def is_local(self) -> bool:
        return isinstance(self._fs, pafs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """The path of a file inside this store's filesystem. Raises ReelmillError where it would lie outside: names may
        come from what stands on storage."""
        if relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
            raise ReelmillError(
                f"{shown(self.uri)}: {relative!r} is refused, since it would lie outside of this folder"
            )
        return str(PurePosixPath(self._root) / relative)

    def open(self, relative: str) -> pa.NativeFile:
        """A file for reading, with random access."""
        return self._fs.open_input_file(self.path(relative))

    def read(self, relative: str) -> bytes:
        with self.open(relative) as file:
            return cast(bytes, file.read())

    def read_or_none(self, relative: str) -> bytes | None:
        """The file's bytes, or None where there is no such file."""
        try:
            return self.read(relative)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def identity(self, relative: str) -> tuple[int, int]:
        """(size, mtime_ns) of a file: other for other content, but for one written twice in a tick of the storage's
        clock, which may be a second, with the same size. Raises FileNotFoundError."""
        info = self._fs.get_file_info(self.path(relative))
        if not info.is_file:
            raise FileNotFoundError(f"{shown(self.uri)}/{relative}")
        return int(info.size), int(info.mtime_ns or 0)

    def files(self, folder: str) -> list[str]:
        """The sorted names of the files directly in a folder; empty where there is no such folder."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector) if info.is_file)

    def folders(self, folder: str) -> list[str]:
        """The sorted names of the folders directly in a folder."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        found = self._fs.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)

    def delete(self, relative: str) -> None:
        """Delete a file if it is there."""
        try:
            self._fs.delete_file(self.path(relative))
        except FileNotFoundError:
            pass

    def delete_folder(self, relative: str) -> None:
        """Delete a folder and all in it, if it is there."""
        try:
            self._fs.delete_dir(self.path(relative))
        except FileNotFoundError:
            pass

    def stage(self, relative: str) -> StagedFile:
        """A new file that appears under its name only when `publish` is called."""
        return StagedFile(self, relative)

    def put(self, relative: str, data: bytes) -> FileEntry:
        """Write a small file atomically."""
        with self.stage(relative) as staged:
            staged.file.write(data)
            return staged.publish()

    def _upload(self, staged: BinaryIO, relative: str) -> None:
        remote, path = patient(self._fs), self.path(relative)
        upload(remote.filesystem, staged, path, remote.where(path))


@contextmanager
def _writing(where: str) -> Iterator[None]:
    """Turn what the storage says into one sentence."""
    try:
        yield
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise StorageError(
            f"{where}: can't write here ({what}); make room or check the path and its permissions, "
            "then run the same command again"
        ) from error


class _HashingFile:
    """A write-only file that hashes what passes through it."""

    def __init__(self, raw: BinaryIO, where: str) -> None:
        self.raw = raw
        self.where = where
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        with _writing(self.where):
            return self.raw.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self.raw.flush()

    closed = False

    def close(self) -> None:
        """Left to the staged file, which syncs before it closes."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


class StagedFile:
    """A file not yet visible. Leaving the `with` block without `publish` removes it.

    For a local store it has a temporary name in the product's `_tmp` folder, which a killed process leaves behind
    for the next run to sweep. For an object store it has no name at all, so that nothing outlives the process.
    """

    def __init__(self, store: Store, relative: str) -> None:
        self._store = store
        self._relative = relative
        self._temporary = self._make_temporary() if store.is_local else None
        self._raw: BinaryIO  # closed by publish or by leaving the block
        self._where = store.path(relative)  # what is full or refuses, where this file can't be written
        if not store.is_local:
            folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
            self._where = f"{folder} (TMPDIR, where {self._where} is kept until it is sent)"
        with _writing(self._where):
            if self._temporary:
                self._raw = self._temporary.open("wb")
            else:
                self._raw = cast(BinaryIO, tempfile.TemporaryFile())
        self._hashing = _HashingFile(self._raw, self._where)
        self.file = cast(BinaryIO, self._hashing)

    def _make_temporary(self) -> Path:
        """A temporary name on the local store's disk, its folder and the target's folder made."""
        where = self._store.path(self._relative)
        # the product folder's _tmp: the same disk, so that the rename is atomic
        *folders, name = PurePosixPath(self._relative).parts
        folder = Path(self._store.path("/".join((*folders[:2], TEMP_FOLDER))))
        with _writing(where):
            folder.mkdir(parents=True, exist_ok=True)
            Path(where).parent.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.{uuid.uuid4().hex}"

    def publish(self) -> FileEntry:
        """Make the file visible under its name; returns its size and hash."""
        with _writing(self._where):
            self._raw.flush()
            os.fsync(self._raw.fileno())  # before an upload too: a disk that can't keep the bytes says so here
        with _writing(self._store.path(self._relative)):
            if self._temporary:
                self._raw.close()
                os.replace(self._temporary, self._store.path(self._relative))
            else:
                self._store._upload(self._raw, self._relative)
                self._raw.close()
        name = "/".join(PurePosixPath(self._relative).parts[2:]) or self._relative
        return FileEntry(path=name, bytes=self._hashing.bytes, sha256=self._hashing.sha256.hexdigest())

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk may refuse the last buffered bytes; the file goes away anyway
            self._raw.close()
        if self._temporary:
            self._temporary.unlink(missing_ok=True)


__all__ = ["TEMP_FOLDER", "StagedFile", "Store", "open_for_reading", "patient", "resolve", "shown"]
