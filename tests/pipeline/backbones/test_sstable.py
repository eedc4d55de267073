"""Sorted string tables: as written here they come back; what is wrong with one is said, and nothing is believed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from bundle_writer import block, table, trailed, varint

from pipeline.backbones import sstable
from pipeline.backbones.sstable import MAGIC, DamagedError, items

ITEMS = [(f"net/layer_{number:03d}/weight".encode(), bytes([number]) * (number % 7)) for number in range(100)]


def framed(text: bytes, index: list[tuple[int, int]]) -> bytes:
    """A table of blocks that are written already; `index` says where each begins and how many bytes it has."""
    entries = [(bytes([number]), varint(offset) + varint(size)) for number, (offset, size) in enumerate(index)]
    stored = trailed(block(entries))
    handles = varint(0) + varint(0) + varint(len(text)) + varint(len(stored) - 5)
    return text + stored + handles.ljust(40, b"\0") + MAGIC


def of_one_block(content: bytes, compression: int = 0) -> bytes:
    stored = trailed(content)
    if compression:
        marked = content + bytes([compression])
        stored = marked + sstable.masked(sstable.crc32c(marked)).to_bytes(4, "little")
    return framed(stored, [(0, len(content))])


@pytest.mark.parametrize("compression", ["none", "snappy"])
@pytest.mark.parametrize("block_bytes", [1, 300, 1 << 18])
def test_items_come_back_in_order(compression: Literal["none", "snappy"], block_bytes: int) -> None:
    assert items(table(ITEMS, block_bytes=block_bytes, compression=compression)) == ITEMS


def test_a_table_may_be_empty() -> None:
    assert items(table([])) == []


def entry(shared: int, own: int, value: int, content: bytes) -> bytes:
    return varint(shared) + varint(own) + varint(value) + content


ONE_RESTART = bytes(4) + (1).to_bytes(4, "little")
GOOD = trailed(block(ITEMS))
DAMAGED = {
    "its last bytes are not a table's": b"not a table",
    "its last bytes": table(ITEMS)[:-1],
    "a number in it has no end": b"\xff" * 40 + MAGIC,
    "beyond the end": framed(GOOD, [(0, 1 << 62)]),
    "a block ends at byte": framed(GOOD, [(1 << 40, 10)]),
    "the checksum of the block at byte 0 is wrong": b"\xff" + table(ITEMS)[1:],
    "its blocks overlap": framed(GOOD, [(0, len(GOOD) - 5)] * 2),
    "its keys are not in order": framed(GOOD * 2, [(0, len(GOOD) - 5), (len(GOOD), len(GOOD) - 5)]),
    "an entry is longer than its block": of_one_block(entry(0, 1, 1 << 60, b"k") + ONE_RESTART),
    "an entry is longer": of_one_block(entry(5, 1, 0, b"k") + ONE_RESTART),
    "shorter than its list of restarts": of_one_block(b"\xff\xff\xff\xff"),
    "a block is shorter": of_one_block(b"\x01"),
    "an unknown way, 4": of_one_block(block(ITEMS), compression=4),
    "an impossible size": of_one_block(varint(1 << 40) + b"abc", compression=1),
    "can't be decompressed": of_one_block(varint(10) + b"abc", compression=1),
}


@pytest.mark.parametrize("words", DAMAGED)
def test_damage_is_named(words: str) -> None:
    with pytest.raises(DamagedError, match=words):
        items(DAMAGED[words])


def bomb(values: list[bytes]) -> bytes:
    """A block of a few bytes an entry, each with a key of 8 KB."""
    keys = [bytes(8000)] + [number.to_bytes(3, "big") for number in range(1, len(values))]
    pairs = enumerate(zip(keys, values, strict=True))
    texts = [entry(8000 if number else 0, len(key), len(value), key + value) for number, (key, value) in pairs]
    return trailed(b"".join(texts) + ONE_RESTART)


def test_prefixes_spell_out_no_more_than_is_allowed() -> None:
    """In a data block, and in the index block, whose keys nobody keeps but whose making takes the time."""
    data = bomb([b""] * 10_000)
    empty = trailed(bytes(4))
    index = bomb([varint(number * len(empty)) + varint(4) for number in range(10_000)])
    handle = varint(10_000 * len(empty)) + varint(len(index) - 5)
    of_empty_blocks = empty * 10_000 + index + (varint(0) + varint(0) + handle).ljust(40, b"\0") + MAGIC
    for text in (framed(data, [(0, len(data) - 5)]), of_empty_blocks):
        assert len(text) < 300_000
        with pytest.raises(DamagedError, match="its keys fill more than 64 MB"):
            items(text)


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_any_truncation_is_damage(compression: Literal["none", "snappy"]) -> None:
    whole = table(ITEMS, block_bytes=400, compression=compression)
    for size in range(len(whole)):
        with pytest.raises(DamagedError):
            items(whole[:size])


def test_any_content_of_a_block_is_read_or_named_damaged() -> None:
    """Checksums are made good after each change, so that it is the reader that meets it."""
    rng = np.random.default_rng(4)
    good = block(ITEMS[:20])
    damaged = 0
    for _ in range(500):
        content = np.frombuffer(good, np.uint8).copy()
        places = rng.integers(0, len(content), rng.integers(1, 4))
        content[places] = rng.integers(0, 256, len(places))
        for compression in (0, 1):
            try:
                items(of_one_block(content.tobytes(), compression))
            except DamagedError:
                damaged += 1
    assert damaged > 300
