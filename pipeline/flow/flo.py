"""Middlebury's .flo files: the format that optical flow's ground truth comes in.

magic float32 202021.25 ("PIEH"), width int32, height int32, then row by row u and v in turn as float32; little-endian.
"""

from __future__ import annotations

import os
import struct
import uuid
from pathlib import Path

import numpy as np

from schemas.errors import ReelmillError, UsageError

MAGIC = struct.pack("<f", 202021.25)
SIZES = struct.Struct("<ii")  # width, height
HEADER_BYTES = len(MAGIC) + SIZES.size
MAX_SIDE_PX = 99_999  # Middlebury's own reader refuses more
UNKNOWN_PX = 1e9  # a component of this size or more says that the flow is not known there


def known(flow: np.ndarray) -> np.ndarray:
    """Where (…,2) flow is known, as (…) bool: both components are below 1e9 px in size, and not NaN."""
    return np.logical_and(np.abs(flow[..., 0]) < UNKNOWN_PX, np.abs(flow[..., 1]) < UNKNOWN_PX)


def read_flo(path: str | Path) -> np.ndarray:
    """The (H,W,2) float32 flow (px; u to the right, v down) of a .flo file, unknown flow as it is stored.

    Raises ReelmillError where the file can't be read, is no .flo file, or is shorter or longer than its header says.
    """
    try:
        with Path(path).open("rb") as file:
            width, height = _read_sizes(path, file.read(HEADER_BYTES))
            # compared before anything is read, so that a damaged header can't ask for gigabytes
            size, wanted = os.fstat(file.fileno()).st_size, HEADER_BYTES + 8 * width * height
            if size != wanted:
                raise ReelmillError(
                    f"{path}: {size} bytes, but flow of {width} x {height} px (width x height) takes {wanted}; "
                    "the file is damaged, copy it anew"
                )
            return np.fromfile(file, "<f4").astype(np.float32, copy=False).reshape(height, width, 2)
    except OSError as error:
        raise ReelmillError(f"{path}: can't read this flow file ({error.strerror})") from None


def _read_sizes(path: str | Path, header: bytes) -> tuple[int, int]:
    if header[: len(MAGIC)] != MAGIC:
        raise ReelmillError(f"{path}: no Middlebury .flo file (it starts with {header[:4]!r}, not {MAGIC!r})")
    if len(header) < HEADER_BYTES:
        raise ReelmillError(f"{path}: this .flo file ends within its header; it is damaged, copy it anew")
    width, height = SIZES.unpack_from(header, len(MAGIC))
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise ReelmillError(
            f"{path}: its header says {width} x {height} px (width x height), and a side has 1 to {MAX_SIDE_PX}; "
            "the file is damaged, copy it anew"
        )
    return width, height


def write_flo(path: str | Path, flow: np.ndarray) -> None:
    """Write (H,W,2) floating-point `flow` (px) as a .flo file, whole or not at all. Equal flow gives equal bytes.

    Values are stored as float32, unknown ones too. Raises UsageError for an array of another kind or size,
    ReelmillError where the file can't be written.
    """
    if not isinstance(flow, np.ndarray) or not np.issubdtype(flow.dtype, np.floating):
        kind = flow.dtype if isinstance(flow, np.ndarray) else type(flow).__name__
        raise UsageError(f"{path}: a .flo file takes a floating-point numpy array in px, not {kind}")
    if flow.ndim != 3 or flow.shape[2] != 2 or not all(1 <= side <= MAX_SIDE_PX for side in flow.shape[:2]):
        raise UsageError(
            f"{path}: a .flo file takes one field of shape (H, W, 2), sides of 1 to {MAX_SIDE_PX} px, not {flow.shape}"
        )
    height, width, _ = flow.shape
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}")  # in the same folder: the rename is atomic
    try:
        try:
            with temporary.open("xb") as file:
                file.write(MAGIC + SIZES.pack(width, height))
                file.write(np.ascontiguousarray(flow, "<f4").data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReelmillError(f"{path}: can't write this flow file ({error.strerror})") from None
