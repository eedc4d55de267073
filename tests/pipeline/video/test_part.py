from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.video import decode, part
from pipeline.video.decode import Decoded, SampledClip, sample_video
from pipeline.video.errors import VideoError
from pipeline.video.part import DoubtError, open_part
from pipeline.video.sample import Grid
from pipeline.video.source import open_source
from schemas.config import Clips
from schemas.manifest import Segment, VideoRow

Told = tuple[list[SampledClip], Decoded | tuple[str, str]]
Asked = tuple[VideoRow, Clips, Grid | None]
DUMMY_BYTES = bytes(range(1, 256)) * 40


def a_row(start_s: float | None = None, end_s: float | None = None, *segments: tuple[float, float]) -> VideoRow:
    labelled = tuple(Segment(start, end, label) for label, (start, end) in enumerate(segments))
    return VideoRow("v", "v", None, ("x",), (7,), start_s, end_s, labelled)


def picture_of(frame: Any) -> tuple[int, str]:
    return frame.pts, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest()


def told(path: Path, asked: Asked) -> tuple[Told, int]:
    """What is made of a row: the clips with hashes of their frames, how it ended; and the bytes that it took."""
    row, spec, grid = asked
    clips: list[SampledClip] = []
    with open_source(str(path)) as source:
        found = sample_video(source.file, row, spec, convert=picture_of, progress=lambda count: None, grid=grid)
        while True:
            try:
                clips.append(next(found))
            except StopIteration as stop:
                return (clips, stop.value), source.num_bytes_read
            except VideoError as error:
                return (clips, (error.reason, error.message)), source.num_bytes_read


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Asked], tuple[Told, int]]:
    """`told` by a scan of the whole file."""

    def tell(path: Path, asked: Asked) -> tuple[Told, int]:
        with monkeypatch.context() as patch:
            patch.setattr(decode, "is_part", lambda row, spec: False)
            return told(path, asked)

    return tell


@pytest.fixture
def doubts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of each part: "", or why the whole file was read."""
    seen: list[str] = []

    @contextmanager
    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        try:
            with open_part(*arguments, **options) as opened:
                yield opened
            seen.append("")
        except (DoubtError, VideoError) as error:
            seen.append(str(error))
            raise

    monkeypatch.setattr(decode, "open_part", watched)
    return seen


def rows(name: str, length_s: float, num_rows: int) -> Iterator[Asked]:
    """Random rows for a video of about `length_s`: spans, open ends and segments, some beyond the end of the video."""
    chance = random.Random(name)
    for _ in range(num_rows):
        start = round(chance.uniform(0, length_s * 1.02), chance.choice([0, 1, 3]))
        end = round(start + chance.choice([0.1, 0.5, 1, 2, 5, length_s / 3]), 3)
        settings: dict[str, Any] = {
            "frames": chance.choice([1, 2, 4, 16]),
            "fps": chance.choice([2, 5, 12.5, 29.97]),
            "tail": chance.choice(["drop", "pad", "loop"]),
        }
        kind = chance.choice(["stride", "uniform", "random", "segment"])
        segments = []
        if kind == "stride":
            settings["stride_s"] = chance.choice([0.3, 1, 3.3])
        elif kind == "segment":
            settings["windows"] = kind
            starts = [round(chance.uniform(0, length_s * 1.05), 2) for _ in range(chance.choice([1, 3]))]
            segments = [(at, round(at + chance.choice([0.2, 1, 4.5]), 2)) for at in starts]
        else:
            settings |= {"windows": kind, "num_clips": chance.choice([1, 3])}
        span: tuple[float | None, float | None] = chance.choice([(start, end)] * 4 + [(start, None), (None, end)])
        if segments:
            span = chance.choice([span, (None, None), (None, None)])
        grid = Grid(fps=chance.choice([5, 25]), num_times=17) if chance.random() < 0.3 else None
        yield a_row(*span, *segments), Clips(**settings), grid


# ---------------------------------------------------------------- nothing changes but what is read

REAL = {
    "kinetics/R6llTwEh07w.mp4": 10,
    "kinetics/SOX5yA1l24A.mp4": 11,
    "activitynet/v_GGSY1Qvo990.mp4": 18,
    "long/women_long_jump.mp4": 35,
    "odd/opus_audio_flipping_a_pancake.mkv": 10.3,
    "odd/h265_video.mp4": 1,
}


@pytest.mark.parametrize("name", REAL)
def test_a_part_of_a_real_video_is_that_of_the_whole(shared_videos: Path, whole, doubts, name: str) -> None:
    for asked in rows(name, REAL[name], 4):
        assert told(shared_videos / name, asked)[0] == whole(shared_videos / name, asked)[0], asked
    assert "" in doubts


H264 = {"b_frames": 3, "gop": 25, "options": {"preset": "ultrafast"}}
OPEN_GOP = {"preset": "ultrafast", "x264-params": "open-gop=1:scenecut=0:bframes=3"}
HEVC = {"preset": "ultrafast", "x265-params": "log-level=0"}
STEPS = [t for t in range(420) if t % 7 and t % 5]
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "b-frames": ("a.mp4", H264),
    "index in front": ("a.mp4", {**H264, "mux": {"movflags": "faststart"}}),
    "open groups": ("a.mp4", {**H264, "options": OPEN_GOP}),
    "open groups, matroska": ("a.mkv", {**H264, "options": OPEN_GOP}),
    "cues in front": ("a.mkv", {**H264, "mux": {"cues_to_front": "1"}}),
    "varying intervals": ("a.mp4", {**H264, "times": STEPS}),
    "varying intervals, matroska": ("a.mkv", {**H264, "times": STEPS}),
    "late start": ("a.mp4", {**H264, "times": range(90, 390)}),
    "late start, matroska": ("a.mkv", {**H264, "times": range(90, 390)}),
    "hevc": (
        "a.mp4",
        {"codec": "libx265", "gop": 25, "options": HEVC},
    ),
    "vp8 with frames never shown": ("a.webm", {"codec": "libvpx", "gop": 25, "options": {"cpu-used": "8"}}),
    "key frames only": ("a.mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
}


@pytest.mark.parametrize("case", MADE)
def test_a_part_of_a_made_video_is_that_of_the_whole(make_video, whole, doubts, case: str) -> None:
    name, how = MADE[case]
    path = make_video(name, num_frames=300, **how)
    start_s = 3.6 if "late" in case else 0
    for row, spec, grid in rows(case, 12 + start_s, 12):
        assert told(path, (row, spec, grid))[0] == whole(path, (row, spec, grid))[0], (row, spec)
    assert "" in doubts


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("cut.mp4", ("-ss", "3.3", "-i", "IN", "-c", "copy")),  # an edit list that begins inside a group
        ("late.mp4", ("-itsoffset", "5.5", "-i", "IN", "-c", "copy")),  # and one that begins with nothing
        ("turned.mp4", ("-display_rotation", "90", "-i", "IN", "-c", "copy")),
        ("two.mp4", ("-i", "IN", "-i", "IN", "-map", "0:v", "-map", "1:v", "-c", "copy")),
        ("sound.mkv", ("-i", "IN", "-f", "lavfi", "-i", "sine=duration=12", "-c:v", "copy", "-c:a", "libopus")),
    ],
)
def test_edits_turns_and_company_change_nothing(make_video, ffmpeg, whole, doubts, name: str, how: tuple) -> None:
    path = make_video("a.mp4", num_frames=300, **H264)
    target = path.with_name(name)
    ffmpeg(*(path if word == "IN" else word for word in how), target)
    for asked in rows(name, 15, 12):
        assert told(target, asked)[0] == whole(target, asked)[0], asked
    assert "" in doubts


# ---------------------------------------------------------------- what is read

PICTURES: dict[str, Any] = {"codec": "png", "pixel_format": "rgb24", "size": (96, 64)}  # all of them key frames
TEN_S = (a_row(25, 35), Clips(frames=16, fps=5), None)


def test_a_window_of_a_real_video_reads_a_part_of_it(shared_videos: Path, whole) -> None:
    path = shared_videos / "long/hd_1080p_122s.mp4"
    asked = (a_row(60, 70), Clips(frames=8, fps=2), None)
    found, num_bytes = told(path, asked)
    expected, num_bytes_whole = whole(path, asked)
    assert found == expected
    assert len(found[0]) == 3
    assert num_bytes < path.stat().st_size / 4
    assert num_bytes_whole == path.stat().st_size  # once: it fits in memory


@pytest.mark.parametrize(
    ("name", "how"), [("index_at_the_end.mov", PICTURES), ("cues_at_the_end.mkv", {"codec": "ffv1", "gop": 1})]
)
def test_bytes_follow_the_window_and_not_the_file(make_video, name: str, how: dict[str, Any]) -> None:
    sizes = {}
    for num_frames in (1000, 1800):
        path = make_video(f"{num_frames}_{name}", num_frames=num_frames, **how)
        _, num_bytes = told(path, TEN_S)
        sizes[num_frames] = num_bytes / path.stat().st_size, num_bytes
    assert sizes[1800][0] < 0.25
    assert sizes[1800][1] < sizes[1000][1] * 1.15  # the index is longer


def test_segments_far_apart_are_read_alone(make_video) -> None:
    path = make_video("a.mov", num_frames=1400, **PICTURES)
    spec = Clips(frames=4, fps=4, windows="segment")
    (clips, _), num_bytes = told(path, (a_row(None, None, (2, 3), (25, 26), (50, 51)), spec, None))
    assert [clip.start_s for clip in clips] == [2, 25, 50]
    assert num_bytes < path.stat().st_size / 4


# ---------------------------------------------------------------- what a row does not ask for is nothing to it


def damaged(path: Path, at_s: float, length_s: float) -> Path:
    """A copy with noise in place of the frame that is stored about there."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * at_s / length_s)
    data[at : at + len(DUMMY_BYTES)] = DUMMY_BYTES
    target = path.with_name(f"damaged_{path.name}")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_outside_the_window_does_no_harm(make_video, whole, doubts, name: str) -> None:
    path = make_video(name, num_frames=500, size=(160, 120), **H264)
    asked = (a_row(3, 6), Clips(frames=8, fps=5), None)
    expected = whole(path, asked)[0]
    assert told(damaged(path, 15, 20), asked)[0] == expected
    assert doubts == [""]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_inside_the_window_is_told_as_ever(make_video, whole, name: str) -> None:
    path = damaged(make_video(name, num_frames=500, size=(160, 120), **H264), 12.5, 20)
    asked = (a_row(9, 16), Clips(frames=8, fps=5), None)
    found, _ = told(path, asked)
    assert found == whole(path, asked)[0]
    if name == "a.mp4":  # Matroska's bytes happen to be found again without a loss that a decoder notices
        assert isinstance(found[1], Decoded)
        assert (found[1].partial, found[1].reason) == (True, "decode_errors")


def test_a_cut_file_still_gives_what_it_has(make_video, whole, doubts) -> None:
    path = make_video("a.mp4", num_frames=500, size=(160, 120), **H264, mux={"movflags": "faststart"})
    cut = path.with_name("cut.mp4")
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before, across, after = ((a_row(*span), Clips(frames=8, fps=5), None) for span in [(2, 5), (8, 14), (15, 18)])
    assert told(cut, before)[0] == whole(path, before)[0]
    assert doubts == [""]
    for asked in (across, after):
        assert told(cut, asked)[0] == whole(cut, asked)[0]
    assert doubts[1:] == ["a file that is cut"] * 2


# ---------------------------------------------------------------- doubts


def test_without_an_index_the_whole_file_is_read(make_video, whole, doubts) -> None:
    fragments = make_video("a.mp4", num_frames=200, **H264, mux={"movflags": "frag_keyframe+empty_moov"})
    live = make_video("live.mkv", num_frames=200, **H264, mux={"live": "1"})
    stream = make_video("a.ts", num_frames=200, gop=25)
    raw = make_video("a.avi", num_frames=200, codec="mpeg4", gop=25)
    for path in (fragments, live, stream, raw):
        asked = (a_row(3, 6), Clips(frames=8, fps=5), None)
        assert told(path, asked)[0] == whole(path, asked)[0]
    assert doubts == [
        "a container without an index of the whole video",
        "an index of the first frames only",
        "a container without an index of the whole video",
        "a container without an index of the whole video",
    ]


def test_what_the_decoder_must_be_fed_whole_is_read_whole(make_video, whole, doubts) -> None:
    interlaced = make_video(
        "a.mp4", num_frames=200, options={"flags": "+ildct+ilme", "x264-params": "interlaced=1"}, gop=25
    )
    asked = (a_row(3, 6), Clips(frames=8, fps=5), None)
    assert told(interlaced, asked)[0] == whole(interlaced, asked)[0]
    assert doubts == ["packets that can't be trusted"]


def test_a_picture_that_stays_for_long_is_weighed_by_the_whole_file(make_video, whole, doubts) -> None:
    path = make_video("a.mp4", times=[*range(0, 2000, 10), *range(2000 + 25 * 700, 2200 + 25 * 700)], gop=5, b_frames=0)
    for span in [(20, 40), (70, 90), (100, 200), (779, 786)]:
        asked = (a_row(*span), Clips(frames=8, fps=5, stride_s=3), None)
        assert told(path, asked)[0] == whole(path, asked)[0], span
    assert doubts.count("timestamps jump") == 3
    assert doubts.count("") == 1


def test_a_row_outside_the_video_is_told_what_the_video_has(make_video, whole) -> None:
    path = make_video("a.mp4", num_frames=200, **H264)
    asked = (a_row(30, 40), Clips(frames=8, fps=5), None)
    (clips, error), _ = told(path, asked)
    assert not clips
    assert error == whole(path, asked)[0][1]
    assert error[0] == "outside"
    segments = (a_row(None, None, (30, 40)), Clips(frames=8, fps=5, windows="segment"), None)
    assert told(path, segments)[0] == whole(path, segments)[0]


def test_a_row_without_a_part_is_not_looked_at_as_one(make_video, doubts) -> None:
    told(make_video("a.mp4", num_frames=200, **H264), (a_row(), Clips(frames=8, fps=5), None))
    assert doubts == []


def test_a_seek_that_leads_elsewhere_is_a_doubt(make_video, whole, doubts, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("a.mov", num_frames=1000, **PICTURES)
    move = part._move
    monkeypatch.setattr(part, "_move", lambda container, stream, ticks: move(container, stream, 0))
    assert told(path, TEN_S)[0] == whole(path, TEN_S)[0]
    assert doubts == ["a seek leads elsewhere than to the key frame asked for"]
