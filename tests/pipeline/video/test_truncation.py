from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from pipeline.video.truncation import has_one_index, is_cut


@pytest.mark.parametrize(
    ("name", "codec", "mux"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mov", "libx264", {"movflags": "faststart"}),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
    ],
)
def test_a_whole_file_is_whole_and_a_byte_less_is_cut(make_video, name, codec, mux) -> None:
    data = make_video(name, codec=codec, mux=mux).read_bytes()
    assert not is_cut(io.BytesIO(data))
    assert is_cut(io.BytesIO(data[:-1]))
    assert is_cut(io.BytesIO(data[: len(data) * 6 // 10]))


def test_bytes_appended_to_a_file_are_no_cut(make_video) -> None:
    data = make_video("a.mp4").read_bytes()
    assert not is_cut(io.BytesIO(data + b"\xff\x00" * 50))


def test_a_live_recording_of_unknown_length_is_no_cut(make_video) -> None:
    data = make_video("live.mkv", mux={"live": "1"}).read_bytes()
    assert not is_cut(io.BytesIO(data[:-100]))


def test_containers_without_a_length_and_nonsense_are_no_cut(make_video) -> None:
    transport = make_video("a.ts").read_bytes()
    for data in (transport[: len(transport) // 2], b"", b"\x1aE\xdf\xa3", b"RIFF", os.urandom(64), b"\0\0\0\1ftyp"):
        assert not is_cut(io.BytesIO(data))


def test_no_real_video_is_taken_for_cut(shared_videos: Path) -> None:
    paths = sorted(path for path in shared_videos.glob("*/*") if path.is_file())
    assert len(paths) >= 25
    for path in paths:
        with path.open("rb") as file:
            assert not is_cut(file), path


@pytest.mark.parametrize(
    ("name", "codec", "mux", "expected"),
    [
        ("a.mp4", "libx264", {}, True),
        ("a.mov", "libx264", {"movflags": "faststart"}, True),
        ("a.mkv", "libx264", {}, True),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, False),
        ("a.avi", "mpeg4", {}, False),
        ("a.ts", "libx264", {}, False),
    ],
)
def test_which_files_may_have_one_index_of_all_frames(make_video, name, codec, mux, expected: bool) -> None:
    assert has_one_index(io.BytesIO(make_video(name, codec=codec, mux=mux).read_bytes())) == expected


def test_nonsense_has_no_index() -> None:
    for data in (b"", b"RIFF", os.urandom(64)):
        assert not has_one_index(io.BytesIO(data))
