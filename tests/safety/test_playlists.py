"""A file that calls itself a video and tells libav to open others: it reaches no file and no address."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.store import Store
from pipeline.video.errors import VideoError
from pipeline.video.probe import probe
from pipeline.video.source import open_source

PLAYLISTS: dict[str, str] = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "concat.mkv": "ffconcat version 1.0\nfile '{target}'\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-main:2011" mediaPresentationDuration="PT1S"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL><SegmentBase/>'
    "</Representation></AdaptationSet></Period></MPD>",
    "list.txt": "{target}\n",
}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video that nobody asked for."""
    path = tmp_path / "private.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that nobody may connect to while the test lasts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        yield listener
        with pytest.raises(TimeoutError):
            listener.accept()


Place = Callable[[str, bytes], str]  # puts a file there and gives the address


@pytest.fixture
def local(tmp_path: Path) -> Place:
    def place(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return place


@pytest.fixture
def remote(s3_uri: str) -> Place:
    def place(name: str, data: bytes) -> str:
        Store(s3_uri.format("playlists")).put(name, data)
        return s3_uri.format(f"playlists/{name}")

    return place


def refuse(place: Place, video: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    for name, text in PLAYLISTS.items():
        for target in (
            str(video),
            video.name,
            f"file://{video}",
            f"http://127.0.0.1:{port}/x.ts",
            f"tcp://127.0.0.1:{port}",
        ):
            uri = place(name, text.format(target=target).encode())
            with open_source(uri) as source, pytest.raises(VideoError) as error:
                probe(source.file)
            assert error.value.reason in ("unreadable", "no_video", "no_frames", "unsupported"), (name, target)


def test_of_a_local_file(local: Place, video: Path, listener: socket.socket) -> None:
    refuse(local, video, listener)


def test_of_an_object(remote: Place, video: Path, listener: socket.socket) -> None:
    refuse(remote, video, listener)


def test_the_playlists_work_where_nothing_forbids_them(local: Place, video: Path) -> None:
    """Else none of these tests could fail."""
    for name, options in (
        ("concat.mkv", {"safe": "0"}),
        ("hls.m3u8", {"allowed_extensions": "ALL", "extension_picky": "0"}),
    ):
        with av.open(local(name, PLAYLISTS[name].format(target=video).encode()), options=options) as container:
            assert container.streams.video[0].width == 64


def test_the_video_itself_is_one(local: Place, video: Path) -> None:
    with open_source(local("copy.mp4", video.read_bytes())) as source:
        assert probe(source.file).width_px == 64
