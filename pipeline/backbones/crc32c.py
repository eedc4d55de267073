"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast with NumPy alone: hundreds of MB a second.

A CRC's register is linear over GF(2). So a long text is cut into lanes of equal length, whose registers go forward side
by side, one array operation for all; then neighbours are joined, as a text a + b leaves what b leaves XOR what a leaves
and len(b) zeros after it. Zeros in front of a text change nothing in a register that starts at 0: they fill up a lane.

A linear map of 32-bit registers is held as its 32 columns: the images of 1, 2, 4, …, 2**31.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78  # Castagnoli's, lowest bit first
LANE_BYTES = (64, 1024)  # of short and of long texts; powers of two
CHUNK_BYTES = 4 << 20  # what goes forward at once: 4096 lanes, whose registers stay in the nearest cache
MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview | NDArray[np.uint8]) -> int:
    """The CRC-32C of bytes (or of a contiguous uint8 array); 0xE3069283 for b"123456789"."""
    text = np.frombuffer(data, np.uint8)
    register = 0xFFFFFFFF
    for start in range(0, len(text), CHUNK_BYTES):
        register = _go_on(register, text[start : start + CHUNK_BYTES])
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form in which LevelDB and TensorFlow store a CRC: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def _go_on(register: int, text: NDArray[np.uint8]) -> int:
    """The register after `text`, of one byte or more."""
    lane_bytes = LANE_BYTES[len(text) > 16 * LANE_BYTES[1]]
    num_lanes = -(-len(text) // lane_bytes)
    lanes = np.zeros(num_lanes * lane_bytes, np.uint8)
    lanes[-len(text) :] = text
    head = lanes[-len(text) :][:4]
    if len(head) < 4:
        return _byte_by_byte(register, text)
    head ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)  # starting at r is starting at 0 with r in the text
    words = np.ascontiguousarray(lanes.view("<u4").reshape(num_lanes, -1).T, np.uint32)
    return _joined(_forward(words), lane_bytes)


def _byte_by_byte(register: int, text: NDArray[np.uint8]) -> int:
    step = _columns(3)
    for byte in text.tolist():
        register = int(_apply(step, np.array([register ^ byte], np.uint32))[0])
    return register


def _forward(words: Words) -> Words:
    """(words of a lane, lanes) -> (lanes,): each lane's register after its words."""
    low, high = _tables()
    registers = np.zeros(words.shape[1], np.uint32)
    for word in words:
        registers ^= word
        registers = low[registers & 0xFFFF] ^ high[registers >> 16]
    return registers


def _joined(registers: Words, lane_bytes: int) -> int:
    """The register of all lanes, one after another."""
    power = (8 * lane_bytes).bit_length() - 1
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _apply(_columns(power), registers[0::2]) ^ registers[1::2]
        power += 1
    return int(registers[0])


@lru_cache
def _columns(power: int) -> Words:
    """The map "after 2**power zero bits"."""
    if power == 0:
        return np.array([POLYNOMIAL] + [1 << bit for bit in range(31)], np.uint32)
    half = _columns(power - 1)
    return _apply(half, half)


@lru_cache
def _tables() -> tuple[Words, Words]:
    """The map "after a word of zeros" of all 16-bit numbers: as a register's low half, and as its high half."""
    columns = _columns(5)
    numbers = np.arange(1 << 16, dtype=np.uint32)
    return _apply(columns, numbers), _apply(columns, numbers << np.uint32(16))


def _apply(columns: Words, registers: Words) -> Words:
    bits = (registers[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    return np.bitwise_xor.reduce(bits * columns, axis=1)
