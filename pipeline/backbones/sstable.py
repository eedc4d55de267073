"""Sorted string tables, LevelDB's file format, in which TensorFlow keeps the index of a checkpoint.

    data block | … | metaindex block | index block | footer

A block is entries, then where restarts lie, then (outside the block's size) one byte that names the compression and the
masked CRC of all that. An entry takes a prefix of its key from the entry before. The index block leads to the data
blocks; the footer, the file's last 48 bytes, leads to the index block. Layout: LevelDB's doc/table_format.md.
TensorFlow writes tables without compression today; its readers take snappy too, and so does this one.

Nothing that the file says is believed: every length is checked before it is used, and no more is held than a few times
the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.backbones.crc32c import crc32c, masked

FOOTER_BYTES = 48
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
TRAILER_BYTES = 5  # compression, CRC
PLAIN, SNAPPY = 0, 1
MAX_KEY_BYTES = 64 << 20  # of all keys: prefixes would let a small file spell out terabytes
SNAPPY_RATIO = 32  # snappy can't do more than 64 bytes from 3


class DamagedError(Exception):
    """What is wrong with the file, as words for the brackets of a sentence."""


def items(table: bytes) -> list[tuple[bytes, bytes]]:
    """All keys and values of a table file, in order. Raises DamagedError."""
    found: list[tuple[bytes, bytes]] = []
    key_bytes = 0
    blocks_end = 0
    for _, handle in _entries(_block(table, *_index_handle(table))):
        offset, size = _handle(handle)
        if offset < blocks_end:
            raise DamagedError("its blocks overlap")
        blocks_end = offset + size
        for key, value in _entries(_block(table, offset, size)):
            if found and key <= found[-1][0]:
                raise DamagedError("its keys are not in order")
            key_bytes += len(key)
            _check_spelt(key_bytes)
            found.append((key, value))
    return found


def varint(text: bytes, start: int) -> tuple[int, int]:
    """The number at `start`, seven bits a byte with the lowest first, and where it ends. Raises DamagedError."""
    number = 0
    for place, byte in enumerate(text[start : start + 10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, start + place + 1
    raise DamagedError("a number in it has no end")


def _index_handle(table: bytes) -> tuple[int, int]:
    footer = table[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or not footer.endswith(MAGIC):
        raise DamagedError("its last bytes are not a table's")
    _, metaindex_end = _handle_at(footer, 0)
    handle, _ = _handle_at(footer, metaindex_end)
    return handle


def _handle_at(text: bytes, start: int) -> tuple[tuple[int, int], int]:
    offset, offset_end = varint(text, start)
    size, end = varint(text, offset_end)
    return (offset, size), end


def _handle(text: bytes) -> tuple[int, int]:
    return _handle_at(text, 0)[0]


def _block(table: bytes, offset: int, size: int) -> bytes:
    """A block's entries and restarts, checked and decompressed."""
    end = offset + size
    if end + TRAILER_BYTES > len(table) - FOOTER_BYTES:
        raise DamagedError(f"a block ends at byte {end}, beyond the end")
    stored = int.from_bytes(table[end + 1 : end + TRAILER_BYTES], "little")
    if masked(crc32c(memoryview(table)[offset : end + 1])) != stored:
        raise DamagedError(f"the checksum of the block at byte {offset} is wrong")
    if table[end] == PLAIN:
        return table[offset:end]
    if table[end] == SNAPPY:
        return _decompressed(table[offset:end])
    raise DamagedError(f"a block is compressed in an unknown way, {table[end]}")


def _decompressed(block: bytes) -> bytes:
    import pyarrow as pa

    size, _ = varint(block, 0)
    if size > SNAPPY_RATIO * len(block):
        raise DamagedError("a compressed block claims an impossible size")
    try:
        return pa.Codec("snappy").decompress(block, decompressed_size=size, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError("a compressed block can't be decompressed") from error


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * num_restarts
    if end < 0:
        raise DamagedError("a block is shorter than its list of restarts")
    key, at, key_bytes = b"", 0, 0
    while at < end:
        shared, at = varint(block, at)
        num_own, at = varint(block, at)
        num_value, at = varint(block, at)
        if shared > len(key) or at + num_own + num_value > end:
            raise DamagedError("an entry is longer than its block")
        key = key[:shared] + block[at : at + num_own]
        key_bytes += len(key)
        _check_spelt(key_bytes)
        yield key, block[at + num_own : at + num_own + num_value]
        at += num_own + num_value


def _check_spelt(key_bytes: int) -> None:
    if key_bytes > MAX_KEY_BYTES:
        raise DamagedError(f"its keys fill more than {MAX_KEY_BYTES >> 20} MB")
