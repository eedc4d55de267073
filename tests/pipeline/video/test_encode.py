"""Clips to members and back: exact where the format is, close where it is lossy, and always the same bytes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.video.encode import decode_frames, describe, encode_clip, encode_frame, gray_frames, gray_members
from pipeline.video.errors import VideoError
from schemas.config import Clips
from schemas.errors import ReelmillError


def spec(encoding: str, **settings: object) -> Clips:
    return Clips.model_validate({"frames": 6, "fps": 5, "encoding": encoding, **settings})


def smooth_clip(num_frames: int = 6, height: int = 48, width: int = 64) -> np.ndarray:
    """(T,H,W,3) uint8: soft colours that move, red unlike blue."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    channels = 128 + 80 * np.sin((x + 4 * t) / 9), 110 + 60 * np.sin(y / 11), 70 + 40 * np.cos((x + y) / 13)
    return np.stack(channels, -1).round().astype(np.uint8)


def members_of(clip: np.ndarray, clips_spec: Clips) -> dict[str, bytes]:
    return encode_clip([encode_frame(rgb, clips_spec) for rgb in clip], clips_spec)


@pytest.mark.parametrize(("encoding", "tolerance"), [("npy", 0), ("jpeg", 8), ("mp4", 20)])
def test_frames_come_back_in_rgb(encoding, tolerance):
    clip = smooth_clip()
    members = members_of(clip, spec(encoding))
    frames = decode_frames({**members, "json": b"{}", "cls": b"3"}, encoding)
    assert frames.shape == clip.shape
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - clip).max() <= tolerance
    assert np.abs(frames.astype(float).mean((0, 1, 2)) - clip.mean((0, 1, 2))).max() < 2  # red is still red


def test_jpeg_members_are_pictures_as_others_read_them():
    clip = smooth_clip()
    members = members_of(clip, spec("jpeg"))
    assert list(members) == [f"{index:03d}.jpg" for index in range(6)]
    with av.open(BytesIO(members["002.jpg"]), format="mjpeg") as container:  # libavcodec, not cv2
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(picture.astype(int) - clip[2]).mean() < 2


def test_jpeg_quality_reaches_the_encoder():
    clip = smooth_clip()
    sizes = [len(members_of(clip, spec("jpeg", quality=quality))["000.jpg"]) for quality in (30, 95)]
    assert sizes[0] < sizes[1]


def test_npy_is_numpy_s_own_format():
    clip = smooth_clip()
    loaded = np.load(BytesIO(members_of(clip, spec("npy"))["npy"]), allow_pickle=False)
    assert np.array_equal(loaded, clip)


def test_mp4_states_rate_colours_and_no_tool():
    members = members_of(smooth_clip(), spec("mp4", fps=29.97))
    assert list(members) == ["mp4"]
    with av.open(BytesIO(members["mp4"])) as container:
        stream = container.streams.video[0]
        assert str(stream.average_rate) == "2997/100"
        frames = list(container.decode(stream))
        assert [frame.pts * frame.time_base for frame in frames] == [n / stream.average_rate for n in range(6)]
        assert (frames[0].colorspace, frames[0].color_range) == (6, 1)  # SMPTE 170M, limited
        assert "encoder" not in container.metadata
    assert b"Lav" not in members["mp4"]


def test_crf_reaches_the_encoder():
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    sizes = [len(members_of(noise, spec("mp4", crf=crf))["mp4"]) for crf in (10, 40)]
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize("size", [(47, 64), (48, 63)])
def test_mp4_of_odd_size_is_one_sentence(size):
    with pytest.raises(VideoError, match=f"{size[0]} x {size[1]}") as caught:
        members_of(smooth_clip(2, *size), spec("mp4"))
    assert caught.value.reason == "odd_size"


def test_odd_sizes_are_fine_elsewhere():
    clip = smooth_clip(2, 47, 63)
    for encoding in ("npy", "jpeg"):
        assert decode_frames(members_of(clip, spec(encoding)), encoding).shape == clip.shape


def test_frames_beyond_999_stay_in_order():
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 200)]
    one, other = (encode_frame(shade, spec("jpeg")) for shade in shades)
    members = encode_clip([one] * 1000 + [other] * 2, spec("jpeg"))
    frames = decode_frames(dict(sorted(members.items())), "jpeg")
    assert frames[:, 0, 0, 0].tolist() == [10] * 1000 + [200] * 2


@pytest.mark.parametrize("encoding", ["jpeg", "mp4", "npy"])
def test_equal_frames_give_equal_bytes_wherever_they_lie_in_memory(encoding):
    """x264 by itself fails this: its result hangs on where its buffers happen to be."""
    clip = smooth_clip()
    seen, ballast = set(), []
    for attempt in range(25):
        ballast.append(np.ones(7919 * attempt + 1, np.uint8))
        seen.add(b"".join(members_of(clip, spec(encoding)).values()))
    assert len(seen) == 1


@pytest.mark.parametrize("encoding", ["jpeg", "mp4", "npy"])
def test_another_process_gives_the_same_bytes(encoding):
    script = f"""
import sys; sys.path[:] = {sys.path!r}
sys.path.insert(0, {str(Path(__file__).parent)!r})
import hashlib
from test_encode import members_of, smooth_clip, spec
print(hashlib.sha256(b"".join(members_of(smooth_clip(), spec("{encoding}")).values())).hexdigest())
"""
    run = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True)
    mine = hashlib.sha256(b"".join(members_of(smooth_clip(), spec(encoding)).values())).hexdigest()
    assert run.stdout.strip() == mine


@pytest.mark.parametrize(
    ("members", "encoding"),
    [
        ({"json": b"{}"}, "jpeg"),
        ({"000.jpg": b"no picture"}, "jpeg"),
        ({"000.jpg": b""}, "jpeg"),
        ({"000.jpg": b"x"}, "npy"),
        ({"npy": b"\x93NUMPY"}, "npy"),
        ({"npy": b"\x93NUMPY\1\0\3\0((("}, "npy"),
        ({"mp4": b"no video"}, "mp4"),
        ({"mp4": b""}, "mp4"),
    ],
)
def test_damaged_samples_are_one_sentence(members, encoding):
    with pytest.raises(ReelmillError, match=f"no readable {encoding} frames"):
        decode_frames(members, encoding)


def test_npy_never_unpickles():
    buffer = BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReelmillError):
        decode_frames({"npy": buffer.getvalue()}, "npy")


def test_reading_jpeg_and_npy_needs_no_av():
    """A GPU node has none."""
    clip = smooth_clip(2)
    jpeg, npy = members_of(clip, spec("jpeg")), members_of(clip, spec("npy"))
    script = f"""
import sys; sys.path[:0] = {sys.path!r}; sys.modules["av"] = None
from pipeline.video.encode import decode_frames
print(decode_frames({jpeg!r}, "jpeg").shape, decode_frames({npy!r}, "npy").shape)
"""
    run = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "(2, 48, 64, 3) (2, 48, 64, 3)"


def test_the_card_names_the_encoder():
    assert describe(spec("jpeg", quality=80))["quality"] == 80
    assert "crf 23" in str(describe(spec("mp4", crf=23))["encoder"])
    assert "uint8" in str(describe(spec("npy"))["format"])


def test_cv2_is_held_to_one_thread_by_the_transform():
    import pipeline.video.transform  # noqa: F401

    assert cv2.getNumThreads() == 1


def test_gray_members_hold_each_frame_once():
    one, two = (np.random.default_rng(seed).integers(0, 256, (4, 6), np.uint8) for seed in (1, 2))
    members = gray_members([one, one, two, two, two, one])
    assert list(members) == ["0", "2", "5"]
    frames = gray_frames(members, height=4, width=6)
    assert list(frames) == [0, 2, 5]
    assert all(np.array_equal(frames[place], frame) for place, frame in ((0, one), (2, two), (5, one)))
