"""Sending a local file to an object store: whole, or not at all."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.storage.patience import persist

UPLOAD_CHUNK_BYTES = 8 << 20


def upload(filesystem: pafs.FileSystem, staged: BinaryIO, path: str, where: str) -> None:
    """Send a local file from its start, again where the server goes away meanwhile. Raises StorageError.

    The object appears whole, or what stood under its name before stays: when the process is killed, when an
    interrupt or any other exception arrives at any moment, when the staged file can't be read, and when the
    server refuses a part. It rests on the store showing an object only when its upload is completed.
    """
    attempts = 0

    def act() -> None:
        nonlocal attempts
        if attempts:  # each attempt's stream is lost with its buffers: none is opened before the server answers
            filesystem.get_file_info(path)
        attempts += 1
        staged.seek(0)
        _send(filesystem, staged, path)

    persist(act, where, doing="write")


def _send(filesystem: pafs.FileSystem, staged: BinaryIO, path: str) -> None:
    # pyarrow's output streams have no abort: closing or dropping one completes the upload with the bytes it has
    # got (and pyarrow.fs.copy_files drops its own, errors and all). So the stream lives in a list that
    # is never freed unless all went well; `extend` opens it and puts it there with no Python step in between.
    kept: list[pa.NativeFile] = []
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    kept.extend(map(partial(filesystem.open_output_stream, compression=None), (path,)))
    while chunk := staged.read(UPLOAD_CHUNK_BYTES):
        kept[0].write(chunk)
    kept[0].close()
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(kept))
