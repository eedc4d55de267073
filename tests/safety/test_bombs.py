"""Small files that say to become large ones: refused in a sentence, before the memory is taken."""

from __future__ import annotations

import resource
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from pipeline.backbones import checkpoint_file
from pipeline.flow.encode import decode_stored
from pipeline.video import encode
from pipeline.video.encode import decode_frames
from schemas.config import Flow
from schemas.errors import ReelmillError

GROWTH_KIB = 300 << 10


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KIB


def claiming_npy(shape: tuple[int, ...], dtype: str = "u1") -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": f"|{dtype}", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(100)


@pytest.mark.parametrize("shape", [(16, 60_000, 60_000, 3), (1 << 40,), (1 << 62, 1 << 62), (16, 10_000, 10_000, 3)])
def test_an_array_that_says_to_be_huge(shape: tuple[int, ...]) -> None:
    with pytest.raises(ReelmillError, match="damaged after it was written"):
        decode_frames({"npy": claiming_npy(shape)}, "npy")
    with pytest.raises(ReelmillError, match="damaged after it was written"):
        decode_stored({"npy": claiming_npy(shape)}, Flow(clips="rgb", encoding="npy"))


def test_a_header_that_never_ends() -> None:
    header = b"{" + b"'a':{" * 1_000_000
    data = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header
    with pytest.raises(ReelmillError, match="damaged after it was written"):
        decode_frames({"npy": data}, "npy")


def test_weights_that_say_to_unpack_to_more_than_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "SMALL_BYTES", 1 << 20)
    torch.save({"weight": torch.zeros(1 << 21)}, tmp_path / "plain.pt")
    assert set(checkpoint_file.read(tmp_path / "plain.pt").tensors) == {"weight"}
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(ReelmillError, match=r"packed\.pt: its [\d,]+ bytes say to unpack to [\d,]+, which is refused"):
        checkpoint_file.read(tmp_path / "packed.pt")


def black_mp4(num_frames: int, side: int) -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "51"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        stream.thread_count = 1
        frame = av.VideoFrame.from_ndarray(np.zeros((side * 3 // 2, side), np.uint8), format="yuv420p")
        for number in range(num_frames):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_a_clip_of_more_frames_than_clips_have() -> None:
    mp4 = black_mp4(3000, 256)  # 590 MB of frames
    assert len(mp4) < 300_000
    with pytest.raises(ReelmillError, match="more than 16 frames"):
        decode_frames({"mp4": mp4}, "mp4", at_most=16)
    jpeg = cv2.imencode(".jpg", np.zeros((1024, 1024, 3), np.uint8))[1].tobytes()
    with pytest.raises(ReelmillError, match="more than 16 frames"):
        decode_frames({f"{k:03d}.jpg": jpeg for k in range(999)}, "jpeg", at_most=16)


def test_a_clip_of_frames_larger_than_frames_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MAX_PIXELS", 128 * 128)  # such a clip itself would take a minute to make
    with pytest.raises(ReelmillError, match=r"frames of 256 x 256 \(height x width\) are none of a video"):
        decode_frames({"mp4": black_mp4(1, 256)}, "mp4")
