"""Samples that hold JPEGs give their bytes; others give what a JPEG product would hold. Damage is a sentence."""

from io import BytesIO

import cv2
import numpy as np
import pytest

from pipeline.export.jpegs import flow_jpegs, frame_jpegs
from pipeline.flow.encode import clip_members, encode_field
from pipeline.video.encode import encode_clip, encode_frame
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError


def flow_spec(**settings: object) -> Flow:
    return Flow.model_validate({"clips": "c", **settings})


def fields(num_fields: int) -> np.ndarray:
    """(T,16,24,2) float32 px that float16 holds exactly, some of it beyond a bound of 4."""
    levels = np.random.default_rng(0).integers(-40, 40, (num_fields, 4, 6, 2)) / 8
    return levels.astype(np.float32).repeat(4, 1).repeat(4, 2)


def flow_members(spec: Flow, num_fields: int = 3) -> dict[str, bytes]:
    return clip_members([encode_field(field, spec) for field in fields(num_fields)], spec, height=16, width=24)


@pytest.mark.parametrize("settings", [{"bound": 4, "quality": 70}, {}])
@pytest.mark.parametrize("encoding", ["jpeg", "png", "npy"])
def test_flow_of_each_encoding_gives_the_same_jpegs(encoding, settings) -> None:
    spec = flow_spec(encoding=encoding, **settings)
    expected = [encode_field(field, flow_spec(**settings)).data for field in fields(3)]
    assert list(flow_jpegs(flow_members(spec), spec, count=3)) == expected
    assert list(flow_jpegs(flow_members(spec), spec, count=2)) == expected[:2]


def test_pictures_beyond_999() -> None:
    members = {f"{axis}.{k:03d}.jpg": f"{axis}{k}".encode() for k in range(1002) for axis in "xy"}
    assert list(flow_jpegs(members, flow_spec(), count=1002))[1001] == (b"x1001", b"y1001")


@pytest.mark.parametrize("encoding", ["jpeg", "npy"])
def test_frames_of_lossless_encodings_give_the_same_jpegs(encoding) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3)).astype(np.uint8)
    spec, as_jpeg = Clips(frames=3, fps=5, encoding=encoding, quality=70), Clips(frames=3, fps=5, quality=70)
    members = encode_clip([encode_frame(frame, spec) for frame in frames], spec)
    assert list(frame_jpegs(members, spec, count=2)) == [encode_frame(frame, as_jpeg) for frame in frames[:2]]


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "members", "sentence"),
    [
        ("jpeg", {"x.000.jpg": b"1", "y.000.jpg": b"1", "x.001.jpg": b"1"}, "it holds no y.001.jpg"),
        ("png", {"x.000.png": b"no picture", "y.000.png": b""}, "no readable png flow"),
        ("npy", {"json": b"{}"}, "it holds no npy"),
        ("npy", {"npy": b"no array"}, "its npy is damaged"),
        ("npy", {"npy": npy(np.zeros((1, 4, 4, 2), np.float16))}, "it holds 1 fields and not 2"),
        ("npy", {"npy": npy(np.array([{"a": 1}], dtype=object))}, "its npy is damaged"),  # never unpickled
    ],
)
def test_damaged_flow(encoding, members, sentence) -> None:
    with pytest.raises(ReelmillError, match=sentence):
        list(flow_jpegs(members, flow_spec(encoding=encoding), count=2))


@pytest.mark.parametrize(
    ("encoding", "members", "sentence"),
    [
        ("jpeg", {"000.jpg": b"1"}, "it holds no 001.jpg"),
        ("npy", {"npy": npy(np.zeros((1, 4, 4, 3), np.uint8))}, "it holds 1 frames and not 2"),
        ("npy", {}, "no readable npy frames"),
    ],
)
def test_damaged_frames(encoding, members, sentence) -> None:
    with pytest.raises(ReelmillError, match=sentence):
        list(frame_jpegs(members, Clips(frames=2, fps=5, encoding=encoding), count=2))


def test_a_written_jpeg_is_gray() -> None:
    spec = flow_spec(encoding="npy")
    ((u, _),) = flow_jpegs(flow_members(spec, 1), spec, count=1)
    assert cv2.imdecode(np.frombuffer(u, np.uint8), cv2.IMREAD_UNCHANGED).shape == (16, 24)
