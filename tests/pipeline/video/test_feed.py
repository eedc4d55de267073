from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.video import feed
from pipeline.video.feed import AllFrames, SurpriseError, Work, needed_frames, runs
from pipeline.video.timeline import Timeline, scan

Frames = dict[int, bytes]


def ignore(count: int) -> None:
    pass


def pixels(frame) -> bytes:
    return frame.to_ndarray().tobytes()


def everything(path: Path) -> tuple[Timeline, Frames]:
    timeline = scan(str(path), progress=ignore)
    return timeline, {ticks: pixels(frame) for ticks, frame in AllFrames(str(path), timeline, Work(ignore))}


def some(path: Path, timeline: Timeline, wanted: list[int]) -> tuple[Frames, int]:
    work = Work(ignore)
    found = needed_frames(str(path), timeline, np.array(wanted), work)
    return {ticks: pixels(frame) for ticks, frame in found}, work.num_frames


def samples(ticks: list[int]) -> list[list[int]]:
    """All, every sixth, one early and one late, the last, and five random sets."""
    chance = random.Random(0)
    sets = [ticks, ticks[::6], ticks[1::3], [ticks[len(ticks) // 9], ticks[len(ticks) * 8 // 9]], ticks[-1:]]
    return sets + [sorted(chance.sample(ticks, min(9, len(ticks)))) for _ in range(5)]


def few_samples(ticks: list[int]) -> list[list[int]]:
    """Of long videos: every sixth, one early and one late, and a random set."""
    return [samples(ticks)[number] for number in (1, 3, 5)]


def assert_skipping_changes_no_pixel(path: Path, samples: Callable[[list[int]], list[list[int]]] = samples) -> None:
    timeline, truth = everything(path)
    assert timeline.can_skip
    assert len(truth) > 1
    for wanted in samples(sorted(truth)):
        assert some(path, timeline, wanted)[0] == {t: truth[t] for t in wanted}


X264 = "scenecut=0:keyint=20:bframes=3:b-pyramid=normal"
X265 = "log-level=0:scenecut=0:keyint=20:bframes=4:b-pyramid=1"


@pytest.mark.parametrize("seek", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("closed.mp4", {"options": {"x264-params": f"{X264}:open-gop=0"}}),
        ("open.mp4", {"options": {"x264-params": f"{X264}:open-gop=1"}}),
        ("open.mkv", {"options": {"x264-params": f"{X264}:open-gop=1"}}),
        ("open.ts", {"options": {"x264-params": f"{X264}:open-gop=1"}}),
        ("hevc_closed.mkv", {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=0"}}),
        ("hevc_open.mp4", {"codec": "libx265", "options": {"x265-params": f"{X265}:open-gop=1"}}),
        ("mpeg4.mp4", {"codec": "mpeg4", "b_frames": 2, "gop": 15}),
        ("mpeg4.avi", {"codec": "mpeg4", "b_frames": 0, "gop": 15}),
        ("mpeg2.ts", {"codec": "mpeg2video", "b_frames": 2, "gop": 15}),
        ("mjpeg.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("vp8.webm", {"codec": "libvpx", "gop": 30, "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
        ("vp9.webm", {"codec": "libvpx-vp9", "gop": 30, "options": {"cpu-used": "8", "lag-in-frames": "16"}}),
    ],
)
def test_skipping_changes_no_pixel(make_video, monkeypatch, name: str, settings: dict, seek: bool) -> None:
    if seek:
        monkeypatch.setattr(feed, "SEEK_BYTES", -1)
    assert_skipping_changes_no_pixel(make_video(name, num_frames=90, size=(96, 64), **settings))


@pytest.mark.slow
def test_skipping_changes_no_pixel_of_the_real_videos(shared_videos: Path) -> None:
    num_files = 0
    for path in sorted(shared_videos.glob("*/*")):
        if path.name in ("hd_1080p_122s.mp4", "corrupted.mp4") or not scan(str(path), progress=ignore).can_skip:
            continue  # the first is long, the second damaged
        assert_skipping_changes_no_pixel(path, few_samples)
        num_files += 1
    assert num_files >= 17


def test_the_name_of_the_encoder_is_read_even_when_its_packet_is_passed_over(shared_videos: Path) -> None:
    # an old x264 writes 4:4:4 in a way of its own, and says so in the first packet only
    path = shared_videos / "odd/yuv444p_cockatoo.mp4"
    timeline, truth = everything(path)
    last = max(truth)
    assert some(path, timeline, [last])[0] == {last: truth[last]}


def test_a_few_frames_cost_a_few_frames(make_video) -> None:
    path = make_video("a.mp4", num_frames=200, gop=20, options={"x264-params": X264})
    timeline, truth = everything(path)
    ticks = sorted(truth)
    assert some(path, timeline, [ticks[160]])[1] == 2  # a key frame, and the first
    assert some(path, timeline, ticks[5:200:100])[1] <= 2 * 6
    # of all GOPs, only frames that others refer to
    assert some(path, timeline, ticks[::10])[1] < 110


def test_seeks_pass_over_what_lies_between(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("a.mp4", num_frames=1000, gop=20, options={"x264-params": X264})
    timeline = scan(str(path), progress=ignore)
    wanted = np.sort(timeline.ticks)[[3, 990]]

    def packets_read() -> int:
        work = Work(ignore)
        assert len(list(needed_frames(str(path), timeline, wanted, work))) == 2
        return work._steps

    without = packets_read()
    monkeypatch.setattr(feed, "SEEK_BYTES", 1000)
    assert packets_read() < 100 < 900 < without


def test_runs_start_at_the_key_frame_that_is_also_shown_before() -> None:
    #                 0  1  2  3* 4  5  6  7* 8
    ticks = np.array([0, 2, 1, 6, 4, 5, 8, 9, 10])
    is_key = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0], bool)

    def found(*wanted: int) -> list[tuple[int, int]]:
        return list(runs(ticks, is_key, np.array(wanted, np.int64)))

    assert found(2) == [(0, 2)]
    assert found(6) == [(3, 6)]
    assert found(4) == [(0, 4)]  # shown before the key frame 3 that it follows: it needs the one before
    assert found(1, 8) == [(0, 1), (7, 8)]
    assert found(0, 3, 4) == [(0, 4)]  # although 3 alone would start at itself
    assert found(2, 6) == [(0, 6)]  # nothing between to leave out
    assert found() == []


def lying(path: Path, change: Callable[[Timeline], dict]) -> Timeline:
    timeline = scan(str(path), progress=ignore)
    fields = {name: getattr(timeline, name) for name in Timeline.__slots__}
    return Timeline(**{**fields, **change(timeline)})


def test_a_promise_that_the_decoder_does_not_keep_is_a_surprise(make_video) -> None:
    path = make_video("a.mp4", num_frames=60, b_frames=2, options={"x264-params": "scenecut=0"})
    timeline = scan(str(path), progress=ignore)
    last = [int(timeline.ticks.max())]
    every_key = lying(path, lambda t: {"is_key": np.ones(len(t.ticks), bool)})
    with pytest.raises(SurpriseError):
        some(path, every_key, [int(np.sort(timeline.ticks)[30])])
    shifted = lying(path, lambda t: {"ticks": t.ticks + 1})
    with pytest.raises(SurpriseError, match="differ"):
        some(path, shifted, [last[0] + 1])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 2000] + b"\xff" * 200 + data[data.index(b"mdat") + 2200 :])
    with pytest.raises(SurpriseError):
        some(path, timeline, np.sort(timeline.ticks).tolist())


def test_a_frame_of_equal_time_comes_through_and_a_late_one_is_counted(make_video) -> None:
    path = make_video("a.ts")
    path.write_bytes(path.read_bytes() * 2)
    timeline = scan(str(path), progress=ignore)
    frames = AllFrames(str(path), timeline, Work(ignore))
    ticks = [t for t, _ in frames]
    assert ticks == sorted(ticks)
    assert len(ticks) + frames.num_late >= 99
    assert frames.num_late >= 45


def test_all_frames_of_all_real_videos(shared_videos: Path) -> None:
    """Decoded counts against those of data/INDEX.md, but for the long ones."""
    lines = (shared_videos.parent / "INDEX.md").read_text().splitlines()
    counts = dict(m.groups() for line in lines if (m := re.match(r"\| `videos/(\S+)` .*?(\d+) frames", line)))
    for name, count in counts.items():
        if int(count) < 500:
            path = str(shared_videos / name)
            frames = AllFrames(path, scan(path, progress=ignore), Work(ignore))
            assert (sum(1 for _ in frames), frames.num_errors, frames.num_late) == (int(count), 0, 0), name


def test_progress_grows_when_the_whole_is_scanned_after_a_part() -> None:
    counts: list[int] = []
    work = Work(counts.append)
    for _ in range(600):
        work.read()
    for num_packets in (256, 512, 768):
        work.scanned(num_packets)
    assert counts == sorted(set(counts))
    assert len(counts) == 5
