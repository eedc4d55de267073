"""CRC-32C against the vectors of RFC 3720 and against its definition, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.backbones import crc32c as module
from pipeline.backbones.crc32c import crc32c, masked

VECTORS = {
    b"": 0,
    b"123456789": 0xE3069283,
    b"\0" * 32: 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
}


def by_definition(text: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in text:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("text", VECTORS)
def test_published_vectors(text: bytes) -> None:
    assert crc32c(text) == VECTORS[text]


@pytest.mark.parametrize("size", [*range(1, 10), 63, 64, 65, 127, 129, 1000, 16383, 16384, 16385, 17409, 40000])
def test_every_way_to_cut_a_text_gives_the_definition(size: int) -> None:
    text = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c(text) == by_definition(text.tobytes())


@pytest.mark.parametrize("left_over", [0, 1, 3, 4, 999])
def test_chunks_go_on_where_the_last_one_ended(left_over: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = np.random.default_rng(left_over).integers(0, 256, 3000 + left_over, dtype=np.uint8).tobytes()
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    assert crc32c(text) == by_definition(text)


def test_a_long_text_takes_several_chunks() -> None:
    """Zeros after a text: the register goes on by itself, which squaring its map gives in no time."""
    text = b"reelmill"
    zeros = 9 << 20  # more than two chunks
    register = np.array([crc32c(text) ^ 0xFFFFFFFF], np.uint32)
    for power in range(20 + 3, 20 + 3 + 4):
        if zeros >> (power - 3) & 1:
            register = module._apply(module._columns(power), register)
    assert crc32c(text + bytes(zeros)) == int(register[0]) ^ 0xFFFFFFFF


def test_the_mask_is_leveldbs() -> None:
    """Rotated right by 15 bits, plus 0xa282ead8."""
    assert masked(0) == 0xA282EAD8
    assert masked(0x00008000) == 0xA282EAD9
    assert masked(0x00000001) == 0xA284EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7
