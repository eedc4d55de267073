"""Flow as WebDataset members, and back.

jpeg, png   x.000.jpg y.000.jpg x.001.jpg …   a gray picture for u and one for v, quantised
npy         npy                               one (T,H,W,2) float16 array of px a clip

Equal flow gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from pipeline.flow.quantise import dequantise, quantisation_report, quantise
from pipeline.npy import from_npy, to_npy
from pipeline.stills import decode_still
from schemas.errors import ReelmillError

if TYPE_CHECKING:
    from schemas.config import Flow

PNG_COMPRESSION = 3


@dataclass(frozen=True, slots=True)
class StoredField:
    """One field as it is stored, and what that lost."""

    data: tuple[bytes, ...]  # the pictures of u and v; with npy (H,W,2) float16
    saturated: float  # share of components beyond the bound
    mean_square_px: float  # of the error of what is stored
    max_abs_px: float  # largest component of the flow itself


def encode_field(field: np.ndarray, spec: Flow) -> StoredField:
    """One (H,W,2) float32 field in px. Its loss is what a reader finds, after JPEG too.

    Raises ReelmillError for NaN, infinity, and with npy for px beyond float16: absurd params give such fields.
    """
    if spec.encoding == "npy":
        half = _half(field)
        size = np.abs(field)
        saturated = float(np.count_nonzero(size > spec.bound)) / field.size
        mean_square_px = float(np.square(half.astype(np.float64) - field).mean())
        return StoredField((half.tobytes(),), saturated, mean_square_px, float(size.max()))
    levels = quantise(field, bound=spec.bound)
    pictures = tuple(_encode(np.ascontiguousarray(levels[..., axis]), spec) for axis in (0, 1))
    if spec.encoding == "jpeg":
        levels = np.stack([decode_still(picture, "gray") for picture in pictures], axis=-1)
    loss = quantisation_report(field, levels, bound=spec.bound)
    return StoredField(pictures, loss.saturated, loss.rmse_px**2, loss.max_abs_px)


def clip_members(fields: Sequence[StoredField], spec: Flow, *, height: int, width: int) -> dict[str, bytes]:
    """The members of one clip, in the order they take in the shard."""
    if spec.encoding == "npy":
        raw = b"".join(field.data[0] for field in fields)
        flow = np.frombuffer(raw, np.float16).reshape(len(fields), height, width, 2)
        return {"npy": to_npy(flow)}
    return {
        f"{axis}.{k:03d}.{_suffix(spec)}": picture
        for k, field in enumerate(fields)
        for axis, picture in zip("xy", field.data, strict=True)
    }


def decode_flow(members: Mapping[str, bytes], spec: Flow) -> np.ndarray:
    """The (T,H,W,2) float32 flow, in px, of one sample; other members (json, cls) are ignored.

    Raises ReelmillError where the members are missing or damaged.
    """
    stored = decode_stored(members, spec)
    return stored if spec.encoding == "npy" else dequantise(stored, bound=spec.bound)


def decode_stored(members: Mapping[str, bytes], spec: Flow) -> np.ndarray:
    """The (T,H,W,2) flow of one sample as it is stored: uint8 levels of pictures, float32 px of npy.

    Raises as `decode_flow` does.
    """
    try:
        if spec.encoding == "npy":
            px = from_npy(members["npy"])
            if px.dtype != np.float16 or not np.isfinite(px).all():  # infinity would pass for the bound
                raise ValueError("its px are not all finite float16 numbers")
            return px.astype(np.float32)
        suffix = _suffix(spec)
        count = sum(name.startswith("x.") and name.endswith(f".{suffix}") for name in members)
        if not count:
            raise ValueError(f"no x.NNN.{suffix} among its members")
        planes = [[decode_still(members[f"{axis}.{k:03d}.{suffix}"], "gray") for axis in "xy"] for k in range(count)]
        return np.stack([np.stack(pair, axis=-1) for pair in planes])
    except (KeyError, ValueError) as error:
        raise ReelmillError(
            f"a sample holds no readable {spec.encoding} flow ({error}): the shard was damaged after it was written"
        ) from None


def level_meanings(spec: Flow) -> np.ndarray | None:
    """(256,) float32: the px that each stored level stands for; None where px are stored themselves."""
    return None if spec.encoding == "npy" else dequantise(np.arange(256, dtype=np.uint8), bound=spec.bound)


def describe(spec: Flow) -> dict[str, Any]:
    """How flow is stored, for the card."""
    if spec.encoding == "npy":
        return {"members": "KEY.npy", "format": "numpy 1.0, (T,H,W,2) float16 px, C order", "quantised": "no"}
    encoder: dict[str, Any] = {"encoder": f"cv2.imencode (libpng), lossless, level {PNG_COMPRESSION}"}
    if spec.encoding == "jpeg":
        encoder = {"encoder": "cv2.imencode (libjpeg-turbo), baseline", "quality": spec.quality}
    bound, suffix = spec.bound, _suffix(spec)
    return {
        "members": f"KEY.x.000.{suffix} KEY.y.000.{suffix} KEY.x.001.{suffix} …",
        "format": "gray pictures, x for u and y for v",
        **encoder,
        "bound_px": bound,
        "quantise": f"q = round(255 (v + {bound:g}) / {2 * bound:g}), halves to even, clipped to 0-255",
        "dequantise": f"v = {2 * bound:g} q / 255 - {bound:g}",
        "zero": f"zero flow is level 128, which reads as {bound / 255:.4g} px",
    }


def _half(field: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = field.astype(np.float16)
    if not np.isfinite(half).all():
        raise ReelmillError("flow holds NaN, infinity or more px than float16 can say (65504); mend its params")
    return half


def _encode(levels: np.ndarray, spec: Flow) -> bytes:
    """(H,W) uint8 as a gray picture."""
    settings = [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]
    if spec.encoding == "jpeg":
        settings = [
            *(cv2.IMWRITE_JPEG_QUALITY, spec.quality),
            *(cv2.IMWRITE_JPEG_PROGRESSIVE, 0),
            *(cv2.IMWRITE_JPEG_OPTIMIZE, 0),
        ]
    ok, data = cv2.imencode(f".{_suffix(spec)}", levels, settings)
    assert ok, "the encoder refused a uint8 picture"
    return data.tobytes()


def _suffix(spec: Flow) -> str:
    return "jpg" if spec.encoding == "jpeg" else "png"
