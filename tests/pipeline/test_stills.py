"""JPEG and PNG bytes to arrays, within bounds."""

from __future__ import annotations

import resource
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stills import MAX_PIXELS, decode_still, size_of

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(suffix: str, *settings: int) -> bytes:
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(RGB[..., ::-1]), list(settings))[1])


def zeros_png(height: int, width: int) -> bytes:
    """A gray PNG of zeros: a few bytes a million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        encoded(".png"),
        encoded(".jpg"),
        encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    ],
    ids=["png", "jpeg", "progressive", "restarts"],
)
def test_pictures_read_as_opencv_reads_them(data: bytes) -> None:
    assert size_of(data) == (24, 40)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    gray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(decode_still(data, "rgb")[..., ::-1], bgr)
    np.testing.assert_array_equal(decode_still(data, "gray"), gray)


def test_fill_bytes_before_a_marker_are_passed_over() -> None:
    data = encoded(".jpg")
    assert size_of(data[:2] + b"\xff\xff" + data[2:]) == (24, 40)


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".webp", ".ppm"])
def test_other_formats_never_reach_a_decoder(suffix: str) -> None:
    with pytest.raises(ValueError, match="no picture"):
        decode_still(encoded(suffix), "rgb")


def test_a_small_file_that_says_a_huge_picture_is_refused_unseen() -> None:
    bomb = zeros_png(30_000, 30_000)  # 0.9 GB of zeros; OpenCV alone would take it
    assert len(bomb) < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"30000 x 30000 .* is no frame of a video"):
        decode_still(bomb, "gray")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # in KiB


def test_what_says_to_be_within_bounds_is_not_believed_either() -> None:
    lying = zeros_png(64, 64)
    header = struct.pack(">II", MAX_PIXELS >> 10, 1 << 10)
    with pytest.raises(ValueError, match="no picture"):
        decode_still(lying[:16] + header + lying[24:], "gray")  # its checksum tells


@given(st.sampled_from([encoded(".jpg"), encoded(".png")]), st.data())
def test_damage_is_a_value_error_or_a_picture(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data[: draw.draw(st.integers(0, len(data)))])
    for _ in range(draw.draw(st.integers(0, 3))):
        if damaged:
            damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        pixels = decode_still(bytes(damaged), "rgb")
    except ValueError:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8
