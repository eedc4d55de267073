"""Files that must lie on the local disk, fetched from a bucket once per machine: weights."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from pipeline.storage.places import resolve, shown
from pipeline.storage.ranges import PART_BYTES, RemoteFile, open_object
from pipeline.storage.remote import Patient
from schemas.errors import StorageError, UsageError


def local_file(place: str | Path) -> Path:
    """A local file with the bytes of `place`: itself where it is a local path, else a copy in this machine's cache.

    The copy's name says which object it is of (address, size, ETag or time): an object that is replaced is fetched
    anew. Several processes at once fetch it once. Raises UsageError where there is no such object or it is denied, and
    StorageError where storage stays away or the disk is full.
    """
    if isinstance(place, Path) or "://" not in place:
        return Path(place)
    filesystem, path = resolve(place)
    if isinstance(filesystem, pafs.LocalFileSystem):
        return Path(path)
    remote: Patient = filesystem.handler
    try:
        source = open_object(remote.filesystem, path, remote.where(path))
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise UsageError(f"{shown(place)}: can't read this file ({what}); check the address") from None
    with source:
        return _fetched(source, path, cache_folder())


def cache_folder() -> Path:
    """Where copies lie: reelmill/ in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reelmill"


def _fetched(source: RemoteFile, path: str, cache: Path) -> Path:
    key = hashlib.sha256(repr((path, source.identity)).encode()).hexdigest()[:32]
    target = cache / key / path.rpartition("/")[2]  # of its own name: what a file is may be told from that
    if target.exists():
        return target
    try:
        with _alone(target.parent):
            if not target.exists():
                _download(source, target)
    except OSError as error:
        raise StorageError(
            f"{target}: can't keep a copy of {path} here ({(error.strerror or str(error)).lower()}); make room, or set "
            "XDG_CACHE_HOME to a folder with more"
        ) from None
    return target


def _download(source: RemoteFile, target: Path) -> None:
    for left in target.parent.glob("*.part"):  # of a process that was killed: nobody else is here
        left.unlink()
    part = target.parent / f"{uuid.uuid4().hex}.part"
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(source, file, PART_BYTES)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of this machine at a time; the lock of one that dies is free."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
