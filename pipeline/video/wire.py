"""What travels between a worker and its decoder process, and what waits in a spool.

A message is a 4-byte big-endian length, a JSON header of that length, then the blobs whose sizes the header
names. No pickle: what a broken process sends can be wrong but can't run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 256 << 20  # a manifest row with millions of segments fits; noise mostly does not


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """One clip as it goes into a shard."""

    clip_id: str
    start_s: float
    end_s: float
    label_ids: tuple[int, ...]
    frame_pts_s: tuple[float, ...]  # source timestamp of each stored frame
    num_real_frames: int
    height_px: int
    width_px: int
    members: dict[str, bytes]  # "000.jpg" … or "mp4" or "npy"

    def message(self) -> tuple[dict[str, Any], list[bytes]]:
        """(header, blobs), for `write`."""
        header = {name: getattr(self, name) for name in self.__slots__}
        header["members"] = list(self.members)
        return header, list(self.members.values())

    @classmethod
    def from_message(cls, header: dict[str, Any], blobs: Sequence[bytes]) -> EncodedClip:
        lists = {name: tuple(header[name]) for name in ("label_ids", "frame_pts_s")}
        members = dict(zip(header["members"], blobs, strict=True))
        return cls(**{**header, **lists, "members": members})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a video ended that did not fail."""

    num_frames_decoded: int
    num_frames_used: int
    partial: bool
    reason: str  # of a partial video, or of one that gave no clip
    message: str
    num_bytes_read: int = 0  # taken from where the video lies; it may differ from run to run, so no product holds it
    reading_s: float = 0.0  # for which the decoder waited for those bytes


def write(file: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Write one message to a blocking file."""
    file.write(pack(header, blobs))
    for blob in blobs:
        file.write(blob)


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """The bytes of a message up to its first blob."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    return _LENGTH.pack(len(text)) + text


def read(take: Callable[[int], bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Read one message; `take(n)` returns exactly n bytes. Raises ValueError on noise."""
    (length,) = _LENGTH.unpack(take(_LENGTH.size))
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"not a message: a header of {length} bytes")
    header = json.loads(take(length))
    return header, [take(size) for size in header.pop("blobs")]


def exactly(file: BinaryIO) -> Callable[[int], bytes]:
    """A `take` for a blocking file. It raises EOFError where the file ends."""

    def take(num_bytes: int) -> bytes:
        data = file.read(num_bytes)
        if len(data) < num_bytes:
            raise EOFError
        return data

    return take
