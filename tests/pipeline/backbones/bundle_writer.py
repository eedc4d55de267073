"""Writes TensorFlow checkpoints of version 2, for tests, as TensorFlow can read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.backbones.crc32c import crc32c, masked
from pipeline.backbones.sstable import MAGIC

Block = list[tuple[bytes, bytes]]

DTYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i2": 5, "i1": 6, "c8": 8, "i8": 9, "b1": 10, "u2": 17}
DTYPES |= {"c16": 18, "f2": 19, "u4": 22, "u8": 23}
RESTART_INTERVAL = 16


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    *,
    num_shards: int = 1,
    block_bytes: int = 4096,  # of the index: TensorFlow's are 256 KB, where I3D's whole index is one block
    compression: Literal["none", "snappy"] = "none",
    byte_order: Literal["little", "big"] = "little",
) -> None:
    """PREFIX.index and PREFIX.data-0000i-of-0000n with these variables, dealt to the data files one by one."""
    shards: list[list[bytes]] = [[] for _ in range(num_shards)]
    items: Block = [(b"", header(num_shards, byte_order))]
    for place, name in enumerate(sorted(tensors, key=str.encode)):
        shard = shards[place % num_shards]
        array = np.asarray(tensors[name])
        content = array.astype(array.dtype.newbyteorder(byte_order)).tobytes()
        where = {"shard": place % num_shards, "offset": sum(map(len, shard)), "size": len(content)}
        items.append((name.encode(), entry(dtype_of(array), array.shape, crc=masked(crc32c(content)), **where)))
        shard.append(content)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for place, contents in enumerate(shards):
        Path(f"{prefix}.data-{place:05d}-of-{num_shards:05d}").write_bytes(b"".join(contents))
    Path(f"{prefix}.index").write_bytes(table(items, block_bytes=block_bytes, compression=compression))


def dtype_of(array: np.ndarray[Any, Any]) -> int:
    """TensorFlow's number of an array's type."""
    return DTYPES[f"{array.dtype.kind}{array.dtype.itemsize}"]


# ---------------------------------------------------------------- messages


def header(num_shards: int, byte_order: Literal["little", "big"] = "little", min_consumer: int = 0) -> bytes:
    version = number(1, 1) + number(2, min_consumer)
    return number(1, num_shards) + number(2, int(byte_order == "big")) + nested(3, version)


def entry(dtype: int, shape: tuple[int, ...], *, shard: int = 0, offset: int = 0, size: int, crc: int = 0) -> bytes:
    dims = b"".join(nested(2, number(1, dim)) for dim in shape)
    place = number(3, shard) + number(4, offset) + number(5, size)
    return number(1, dtype) + nested(2, dims) + place + varint(6 << 3 | 5) + crc.to_bytes(4, "little")


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def nested(field: int, message: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(message)) + message


def varint(value: int) -> bytes:
    text = b""
    while value >= 0x80:
        text += bytes([value & 0x7F | 0x80])
        value >>= 7
    return text + bytes([value])


# ---------------------------------------------------------------- table


def table(items: Block, *, block_bytes: int = 4096, compression: Literal["none", "snappy"] = "none") -> bytes:
    """A sorted string table of items that are in order."""
    text, index, pending = b"", [], []
    for item in items:
        pending.append(item)
        if sum(len(key) + len(value) for key, value in pending) >= block_bytes or item is items[-1]:
            stored = trailed(block(pending), compression)
            index.append((item[0], varint(len(text)) + varint(len(stored) - 5)))
            text += stored
            pending = []
    handles = b""
    for part in (block([]), block(index)):
        stored = trailed(part, compression)
        handles += varint(len(text)) + varint(len(stored) - 5)
        text += stored
    return text + handles.ljust(40, b"\0") + MAGIC


def block(items: Block) -> bytes:
    text, restarts, last = b"", [0], b""
    for place, (key, value) in enumerate(items):
        shared = 0
        if place % RESTART_INTERVAL:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        elif place:
            restarts.append(len(text))
        text += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return text + b"".join(at.to_bytes(4, "little") for at in [*restarts, len(restarts)])


def trailed(content: bytes, compression: Literal["none", "snappy"] = "none") -> bytes:
    """A block with its compression and its checksum after it."""
    if compression == "snappy":
        content = pa.Codec("snappy").compress(content, asbytes=True)
    content += bytes([compression == "snappy"])
    return content + masked(crc32c(content)).to_bytes(4, "little")
