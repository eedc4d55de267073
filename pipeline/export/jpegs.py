"""The JPEGs of a sample: the stored bytes where it holds JPEGs, else its pictures as JPEGs of the product's quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.flow.encode import decode_flow, encode_field
from pipeline.npy import from_npy
from pipeline.video.encode import decode_frames, encode_frame
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError


def flow_jpegs(members: Mapping[str, bytes], flow: Flow, *, count: int) -> Iterator[tuple[bytes, bytes]]:
    """The gray JPEGs of u and v of a flow sample's first `count` fields, quantised with the product's bound.

    Raises ReelmillError where the members are missing or damaged.
    """
    if flow.encoding == "jpeg":
        for k in range(count):
            yield _member(members, f"x.{k:03d}.jpg"), _member(members, f"y.{k:03d}.jpg")
        return
    as_jpeg = flow.model_copy(update={"encoding": "jpeg"})
    for field in _fields(members, flow, count):
        u, v = encode_field(field, as_jpeg).data
        yield u, v


def frame_jpegs(members: Mapping[str, bytes], clips: Clips, *, count: int) -> Iterator[bytes]:
    """The JPEGs of a clip sample's first `count` frames.

    Raises ReelmillError where the members are missing or damaged.
    """
    if clips.encoding == "jpeg":
        for k in range(count):
            yield _member(members, f"{k:03d}.jpg")
        return
    as_jpeg = clips.model_copy(update={"encoding": "jpeg"})
    frames = decode_frames(members, clips.encoding, at_most=clips.frames)
    _check_count(len(frames), count, "frames")
    for frame in frames[:count]:
        yield bytes(encode_frame(frame, as_jpeg))


def _fields(members: Mapping[str, bytes], flow: Flow, count: int) -> Iterator[np.ndarray]:
    """(H,W,2) float32 px, one at a time: a clip may hold thousands."""
    if flow.encoding == "png":
        for k in range(count):  # of these decode_flow gives the middle of each level, which quantises to that level
            pair = {f"{axis}.000.png": _member(members, f"{axis}.{k:03d}.png") for axis in "xy"}
            yield decode_flow(pair, flow)[0]
        return
    try:
        half = from_npy(_member(members, "npy"))
    except ValueError as error:
        raise ReelmillError(f"its npy is damaged: {error}") from None
    _check_count(len(half), count, "fields")
    for k in range(count):
        yield half[k].astype(np.float32)


def _member(members: Mapping[str, bytes], name: str) -> bytes:
    try:
        return members[name]
    except KeyError:
        raise ReelmillError(f"it holds no {name}") from None


def _check_count(found: int, count: int, what: str) -> None:
    if found < count:
        raise ReelmillError(f"it holds {found} {what} and not {count}")
