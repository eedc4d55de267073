"""Whether a file ends before the length that its own outermost boxes state: a cut download, a full disk.

Only the byte lengths that containers need for their own structure are read, never durations or frame counts. MPEG-TS,
FLV and raw streams state no length, so a cut there can't be told from an end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

EBML, SEGMENT = 0x1A45DFA3, 0x18538067
MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}  # one of these is a file's first


def is_cut(file: BinaryIO) -> bool:
    """True when an MP4 / MOV, Matroska / WebM or AVI file is shorter than it says. Moves the file's position."""
    num_bytes = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 12)
    if head[4:8] in MP4_BOXES:
        return _mp4_is_cut(file, num_bytes)
    if head[:4] == EBML.to_bytes(4):
        return _matroska_is_cut(file, num_bytes)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little") > num_bytes
    return False


def has_one_index(file: BinaryIO) -> bool:
    """True for an MP4 / MOV file without fragments, whose one `moov` box tells of every frame, and for any Matroska /
    WebM file, whose `Cues` may tell of key frames. Moves the file's position."""
    num_bytes = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 12)
    if head[4:8] in MP4_BOXES:
        return all(name != b"moof" for name, _ in _boxes(file, num_bytes))
    return head[:4] == EBML.to_bytes(4)


def _at(file: BinaryIO, offset: int, num_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(num_bytes)


def _mp4_is_cut(file: BinaryIO, num_bytes: int) -> bool:
    return any(end > num_bytes for _, end in _boxes(file, num_bytes))


def _boxes(file: BinaryIO, num_bytes: int) -> Iterator[tuple[bytes, int]]:
    """(name, where it says that it ends) of each outermost box, but for a last one that goes to the end of the file."""
    offset = 0
    while offset + 8 <= num_bytes:
        header = _at(file, offset, 16)
        length = int.from_bytes(header[:4])
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(header[8:16])
        if length < 8 or not header[4:8].isalnum():
            return  # to the end of the file, or not a box: bytes that somebody appended
        offset += length
        yield header[4:8], offset


def _matroska_is_cut(file: BinaryIO, num_bytes: int) -> bool:
    offset = 0
    for expected in (EBML, SEGMENT):
        head = _at(file, offset, 12)
        if int.from_bytes(head[:4]) != expected or len(head) < 5 or head[4] == 0:
            return False
        width = 9 - head[4].bit_length()
        field = head[4 : 4 + width]
        length = int.from_bytes(field) & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:  # unknown length: a live recording
            return False
        offset += 4 + width + length
    return offset > num_bytes
