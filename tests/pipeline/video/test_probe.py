from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from pipeline.video import feed
from pipeline.video import probe as probe_module
from pipeline.video import timeline as timeline_module
from pipeline.video.errors import VideoError
from pipeline.video.probe import probe


def reason(source: str | io.BytesIO) -> str:
    with pytest.raises(VideoError) as caught:
        probe(source)
    assert caught.value.message == str(caught.value)
    assert caught.value.message
    return caught.value.reason


def test_says_what_the_first_frame_shows(make_video) -> None:
    path = make_video("a.mkv", size=(80, 48), rate=30, pixel_format="yuv444p")
    for source in (str(path), path.open("rb")):
        info = probe(source)
        assert (info.codec, info.width_px, info.height_px, info.rotation_deg) == ("h264", 80, 48, 0)
        assert (info.pixel_format, info.time_base, info.rate) == ("yuv444p", Fraction(1, 1000), 30)


def test_a_video_of_one_delayed_frame_is_a_video(make_video) -> None:
    assert probe(str(make_video("a.mp4", num_frames=1, b_frames=3))).width_px == 64


def test_size_is_as_displayed(make_video, ffmpeg, tmp_path: Path) -> None:
    upright = make_video("a.mp4", size=(80, 48))
    for degrees, expected in ((90, (48, 80)), (180, (80, 48)), (270, (48, 80))):
        turned = tmp_path / f"{degrees}.mp4"
        ffmpeg("-display_rotation", str(degrees), "-i", upright, "-c", "copy", turned)
        info = probe(str(turned))
        assert (info.width_px, info.height_px) == expected
        assert info.rotation_deg % 360 == degrees


def test_a_name_with_a_colon_is_a_path(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("http:a.mp4")
    monkeypatch.chdir(path.parent)
    assert probe("http:a.mp4").codec == "h264"


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    assert reason(str(tmp_path / "none.mp4")) == "missing"
    for name, data, expected in (
        ("empty.mp4", b"", "empty_file"),
        ("text.mp4", b"this is not a video\n" * 50, "unreadable"),
        ("zeros.mp4", bytes(5000), "unreadable"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n", "unreadable"),
    ):
        (tmp_path / name).write_bytes(data)
        assert reason(str(tmp_path / name)) == expected, name
        assert reason(io.BytesIO(data)) == expected, name


PLAYLISTS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile 'real.ts'\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>real.ts</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_no_other_file_and_no_address(make_video, monkeypatch, name: str) -> None:
    real = make_video("real.ts")
    path = real.with_name(name)
    path.write_text(PLAYLISTS[name])
    monkeypatch.chdir(real.parent)
    with path.open("rb") as file:
        for source in (str(path), name, file, io.BytesIO(path.read_bytes())):
            assert reason(source) == "unreadable", source


class Exhausted:
    """A container, a stream and a decoder in one, for which there is no memory."""

    def decode(self, packet: object) -> list:
        raise av.error.MemoryError(12, "Cannot allocate memory")

    @property
    def codec_context(self) -> Exhausted:
        return self

    demux = decode


def test_running_out_of_memory_is_no_damage(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(make_video("a.mp4"))
    timeline = timeline_module.scan(path, progress=lambda count: None)
    nothing: Any = Exhausted()
    work = feed.Work(lambda count: None)

    @contextmanager
    def opened(source: object) -> Iterator[tuple[Any, Any]]:
        with probe_module.open_video(path) as (container, _):
            yield container, nothing

    monkeypatch.setattr(feed, "packets", lambda container, stream: iter([object()]))
    monkeypatch.setattr(feed, "open_video", opened)
    for attempt in (
        lambda: list(probe_module.packets(nothing, nothing)),
        lambda: probe_module._good_frames(nothing, None),
        lambda: timeline_module.FirstFrames(nothing).finish(),
        lambda: list(feed.AllFrames(path, timeline, work)),
        lambda: feed._decode(nothing, None, work),
    ):
        with pytest.raises(MemoryError):
            attempt()
    monkeypatch.setattr(av, "open", lambda *_, **__: nothing.decode(None))
    with pytest.raises(MemoryError):
        probe(path)


def test_sound_cover_art_and_pictures_are_no_video(ffmpeg, tmp_path: Path) -> None:
    sound, picture, cover = tmp_path / "a.m4a", tmp_path / "a.png", tmp_path / "cover.m4a"
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", sound)
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1", picture)
    ffmpeg("-i", sound, "-i", picture, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", cover)
    (tmp_path / "picture.mp4").write_bytes(picture.read_bytes())
    for name in ("a.m4a", "cover.m4a", "a.png", "picture.mp4"):
        assert reason(str(tmp_path / name)) == "no_video", name


def test_the_video_is_taken_and_not_its_cover_art(make_video, ffmpeg, tmp_path: Path) -> None:
    video, both, picture = make_video("a.mp4"), tmp_path / "both.mp4", tmp_path / "a.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=200x200", "-frames:v", "1", picture)
    ffmpeg("-i", picture, "-i", video, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", both)
    with av.open(str(both)) as container:
        assert len(container.streams.video) == 2
    assert (probe(str(both)).width_px, probe(str(both)).codec) == (64, "h264")


def test_metadata_that_is_not_utf8_does_not_matter(make_video) -> None:
    path = make_video("a.avi", codec="mpeg4", mux={"fflags": "+bitexact"})
    with av.open(str(path), "r") as source, av.open(str(path.with_name("b.avi")), "w") as out:
        out.metadata["title"] = "TITLE"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = path.with_name("b.avi").read_bytes()
    assert b"TITLE" in data
    path.write_bytes(data.replace(b"TITLE", b"\xff\xfe\xe9\xe8\xff"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert probe(str(path)).codec == "mpeg4"


def test_a_stream_of_which_nothing_decodes(make_video) -> None:
    path = make_video("a.mp4", mux={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = b"\xff" * (len(data) - start)
    assert reason(io.BytesIO(bytes(data))) == "no_frames"


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(VideoError("no_video", "the file holds only sound")))
    assert (error.reason, error.message) == ("no_video", "the file holds only sound")


def test_real_rotated_videos(shared_videos: Path) -> None:
    for name, rotation in (("rotated_90.mov", -90), ("rotated_270.mov", 90)):
        info = probe(str(shared_videos / "odd" / name))
        assert (info.width_px, info.height_px, info.rotation_deg) == (320, 568, rotation)
