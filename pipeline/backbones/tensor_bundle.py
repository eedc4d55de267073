"""TensorFlow checkpoints of version 2 ("tensor bundles"), read without TensorFlow: DeepMind's I3D weights are such.

A bundle is PREFIX.index, a sorted string table, and PREFIX.data-0000i-of-0000n. The table maps "" to a header and each
variable's name to its type, shape and place in a data file, with a CRC that is checked here. The messages are those of
tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import sstable
from pipeline.backbones.crc32c import crc32c, masked
from pipeline.backbones.sstable import DamagedError
from schemas.errors import ReelmillError

Array = NDArray[np.generic]

DATA_NAME = re.compile(r"\.data-\d{5,}-of-\d{5,}$")
FORMAT_VERSION = 1  # the newest there is; a header says which one a reader must know
PART = b"\0"  # what the keys of a partitioned variable's parts begin with
MAX_DIMS = 64  # NumPy's
MAX_BYTES = 1 << 48  # of one variable, zero dimensions left out: what NumPy can shape

# TensorFlow's type numbers (types.proto): as stored. bool is stored as bytes, bfloat16 as the upper half of a float32.
BOOL, BFLOAT16 = 10, 14
STORED = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", BOOL: "u1", BFLOAT16: "u2"}
STORED |= {17: "u2", 18: "c16", 19: "f2", 22: "u4", 23: "u8"}
GIVEN = STORED | {BOOL: "?", BFLOAT16: "f4"}
NO_NUMBERS = (7, 20, 21)  # string, resource, variant: what TensorFlow 2 keeps of its objects


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    in_parts: bool


@dataclass(frozen=True)
class _Index:
    path: Path
    num_shards: int
    byte_order: Literal["<", ">"]
    entries: tuple[_Entry, ...]

    def shard(self, number: int) -> Path:
        prefix = self.path.name.removesuffix(".index")
        return self.path.parent / f"{prefix}.data-{number:05d}-of-{self.num_shards:05d}"


def is_bundle(path: Path) -> bool:
    """Whether a bundle is named: by its prefix (which is no file), its index, or one of its data files."""
    if path.name.endswith(".index") or DATA_NAME.search(path.name):
        return True
    try:
        return _with(path, ".index").is_file()
    except OSError:  # a name too long, a folder that can't be looked into
        return False


def bundle_files(path: Path) -> tuple[Path, ...]:
    """All files of a bundle, sorted: what its identity is made of. Raises ReelmillError where one is missing."""
    index = _read_index(path)
    files = [index.path]
    for number in range(index.num_shards):
        files.append(index.shard(number))
        if not files[-1].is_file():
            raise _missing(files[-1], index)
    return tuple(sorted(files))


def read_index(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    """Shape and dtype of every variable by name, as `read_bundle` gives them; no data file is needed.

    What holds no numbers (strings) has dtype object. Raises ReelmillError.
    """
    entries = _read_index(path).entries
    return {entry.name: (entry.shape, np.dtype(GIVEN.get(entry.dtype, "O"))) for entry in entries}


def read_bundle(path: Path) -> dict[str, Array]:
    """Every variable by name, sorted, in its own memory and native byte order; bfloat16 becomes float32.

    What holds no numbers (strings) is left out. Raises ReelmillError where a file is missing, truncated, damaged
    or another one.
    """
    index = _read_index(path)
    found = {}
    numbers = [entry for entry in index.entries if entry.dtype not in NO_NUMBERS]
    for shard in sorted({entry.shard for entry in numbers}):
        found.update(_read_shard(index, shard, [entry for entry in numbers if entry.shard == shard]))
    return {entry.name: found[entry.name] for entry in numbers}


def other_tensorflow(path: Path) -> str | None:
    """What of TensorFlow a path is that is no bundle, and what to do; None where it is nothing of TensorFlow's."""
    try:
        if path.is_dir():
            indexes = sorted([*path.glob("*.index"), *path.glob("variables/*.index")])
            return f"a folder; give {indexes[0]}" if indexes else None
        if path.suffix == ".meta" and is_bundle(path.with_suffix("")):
            return f"the graph without the weights; give {path.with_suffix('.index')}"
        if path.suffix in (".pb", ".pbtxt"):
            return "a TensorFlow graph; give the checkpoint, which a SavedModel has in variables/variables.index"
        with path.open("rb") as file:
            head = file.read(512)
            tail = _tail(file)
    except OSError:
        return None
    if named := re.match(rb'model_checkpoint_path: "([^"\n]+)"', head):
        newest = path.parent / named[1].decode(errors="replace")
        return f"the text file that names the newest checkpoint; give {newest}.index"
    if tail == sstable.MAGIC:
        return "a TensorFlow checkpoint of version 1; load it in TensorFlow and save it with tf.train.Saver (version 2)"
    return None


def _tail(file: BinaryIO) -> bytes:
    file.seek(-min(file.seek(0, 2), len(sstable.MAGIC)), 2)
    return file.read()


def _with(path: Path, ending: str) -> Path:
    return path.parent / f"{path.name}{ending}"


# ---------------------------------------------------------------- index


def _read_index(path: Path) -> _Index:
    try:
        index_path = _index_path(path)
        table = index_path.read_bytes()
    except FileNotFoundError as error:
        raise ReelmillError(f"{error.filename}: no such file; a TensorFlow checkpoint is read by its index") from None
    except OSError as error:
        raise ReelmillError(f"{path}: can't read the weights ({error.strerror}); check the path") from None
    try:
        return _parse(table, index_path)
    except DamagedError as error:
        raise ReelmillError(f"{index_path}: this index is truncated or damaged ({error}); get it again") from None


def _index_path(path: Path) -> Path:
    if _with(path, ".index").is_file():
        return _with(path, ".index")
    if path.name.endswith(".index") and not path.is_dir():
        return path
    if DATA_NAME.search(path.name):
        return path.parent / DATA_NAME.sub(".index", path.name)
    if other := other_tensorflow(path):
        raise ReelmillError(f"{path}: not a TensorFlow checkpoint of version 2, but {other}")
    if not path.exists():
        raise ReelmillError(f"{path}: no such file, and no {path.name}.index; check the path")
    raise ReelmillError(f"{path}: not a TensorFlow checkpoint of version 2; give its .index file")


def _parse(table: bytes, path: Path) -> _Index:
    found = sstable.items(table)
    if not found or found[0][0] != b"":
        raise DamagedError("it has no header")
    num_shards, byte_order = _header(found[0][1], path)
    entries = tuple(_entry(key, value) for key, value in found[1:] if not key.startswith(PART))
    for entry in entries:
        _check(entry, num_shards, path)
    if len(entries) < len(found) - 1:
        raise DamagedError("it has parts of variables without the variables")
    _check_apart(entries)
    return _Index(path, num_shards, byte_order, entries)


def _header(message: bytes, path: Path) -> tuple[int, Literal["<", ">"]]:
    """BundleHeaderProto: the number of data files, and the byte order of the numbers in them."""
    header = dict(_fields(message))
    version = dict(_fields(_bytes(header.get(3, b""))))
    needed = _int(version.get(2, 0))
    if needed > FORMAT_VERSION:
        raise ReelmillError(
            f"{path}: needs a reader of TensorFlow's bundle version {needed}, reelmill knows up to {FORMAT_VERSION}; "
            "load it in TensorFlow and save it with tf.train.Saver"
        )
    return _int(header.get(1, 0)), ">" if _int(header.get(2, 0)) else "<"


def _entry(key: bytes, message: bytes) -> _Entry:
    """BundleEntryProto."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise DamagedError("a name is not UTF-8") from None
    found = dict(_fields(message))
    shape = tuple(_dim(_bytes(value)) for number, value in _fields(_bytes(found.get(2, b""))) if number == 2)
    dtype, shard, offset, size, crc = (_int(found.get(number, 0)) for number in (1, 3, 4, 5, 6))
    return _Entry(name, dtype, shape, shard, offset, size, crc, in_parts=7 in found)


def _dim(message: bytes) -> int:
    return _int(dict(_fields(message)).get(1, 0))


def _check(entry: _Entry, num_shards: int, path: Path) -> None:
    if entry.in_parts:
        raise ReelmillError(
            f"{path}: {entry.name} is saved in parts (a partitioned variable), which reelmill doesn't read; "
            "load it in TensorFlow and save it whole"
        )
    if entry.shard >= num_shards:
        raise DamagedError(f"{entry.name} lies in data file {entry.shard} of {num_shards}")
    if entry.dtype in NO_NUMBERS:
        return
    if entry.dtype not in STORED:
        raise ReelmillError(
            f"{path}: {entry.name} is of TensorFlow's type {entry.dtype}, which reelmill doesn't read; "
            "load it in TensorFlow and save it as float32"
        )
    item_bytes = np.dtype(STORED[entry.dtype]).itemsize
    if len(entry.shape) > MAX_DIMS or math.prod(max(dim, 1) for dim in entry.shape) * item_bytes > MAX_BYTES:
        raise DamagedError(f"the shape of {entry.name} is impossible")
    if math.prod(entry.shape) * item_bytes != entry.size:
        raise DamagedError(f"{entry.name} has {entry.size} bytes, which are not its shape's {entry.shape}")


def _check_apart(entries: Iterable[_Entry]) -> None:
    """That no bytes are two variables': then all of them together are no larger than the files."""
    shard, end = 0, 0
    for entry in sorted(entries, key=lambda entry: (entry.shard, entry.offset, entry.size)):
        if entry.shard == shard and entry.offset < end:
            raise DamagedError(f"{entry.name} overlaps another variable")
        shard, end = entry.shard, entry.offset + entry.size


# ---------------------------------------------------------------- protobuf


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number, and an int or the bytes of a nested message."""
    at = 0
    while at < len(message):
        tag, at = sstable.varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = sstable.varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = sstable.varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise DamagedError(f"a message has a field of unknown kind {kind}")
        if at + size > len(message):
            raise DamagedError("a message is shorter than its fields")
        content = message[at : at + size]
        yield tag >> 3, content if kind == 2 else int.from_bytes(content, "little")
        at += size


def _int(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise DamagedError("a message stands where a number should")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise DamagedError("a number stands where a message should")
    return value


# ---------------------------------------------------------------- data


def _read_shard(index: _Index, shard: int, entries: Iterable[_Entry]) -> dict[str, Array]:
    path = index.shard(shard)
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            return {
                entry.name: _read_tensor(file, file_bytes, entry, path, index.byte_order)
                for entry in sorted(entries, key=lambda entry: entry.offset)
            }
    except FileNotFoundError:
        raise _missing(path, index) from None
    except OSError as error:
        raise ReelmillError(f"{path}: can't read the weights ({error.strerror}); check the path") from None


def _missing(path: Path, index: _Index) -> ReelmillError:
    files = "one data file" if index.num_shards == 1 else f"{index.num_shards} data files"
    return ReelmillError(f"{path}: missing; {index.path.name} has {files} beside it, get this one too")


def _read_tensor(file: BinaryIO, file_bytes: int, entry: _Entry, path: Path, byte_order: Literal["<", ">"]) -> Array:
    end = entry.offset + entry.size
    if end > file_bytes:
        raise ReelmillError(f"{path}: truncated, {entry.name} ends at byte {end} of {file_bytes}; get it again")
    file.seek(entry.offset)
    raw = np.fromfile(file, np.uint8, entry.size)
    if masked(crc32c(raw)) != entry.crc:
        raise ReelmillError(
            f"{path}: the checksum of {entry.name} is wrong; the file is damaged or of another checkpoint, get it again"
        )
    stored = raw.view(np.dtype(STORED[entry.dtype]).newbyteorder(byte_order))
    if entry.dtype == BFLOAT16:
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(GIVEN[entry.dtype], copy=False).reshape(entry.shape)
