from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.video.errors import VideoError
from pipeline.video.timeline import Timeline, scan


def scanned(path: Path) -> Timeline:
    return scan(str(path), progress=lambda count: None)


def shown_s(timeline: Timeline) -> list[float]:
    return sorted(float(t * timeline.time_base) for t in timeline.ticks[timeline.is_shown].tolist())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv"])
def test_b_frames_are_put_in_order_of_display(make_video, name: str) -> None:
    timeline = scanned(make_video(name, b_frames=3))
    assert timeline.can_skip == (name != "a.flv")  # its demuxer says nothing of packets that it finds damaged
    begin = timeline.begin_s
    assert shown_s(timeline) == pytest.approx([float(begin) + i / 25 for i in range(50)], abs=1e-3)
    assert float(timeline.end_s - begin) == pytest.approx(2, abs=2e-3)


def test_the_last_frame_stays_for_its_own_duration_or_the_interval_before_it(make_video) -> None:
    times = [10, 12, 15, 25]
    # MP4 says a duration; Matroska says none, so the interval before the last frame counts
    assert scanned(make_video("a.mp4", times=times, b_frames=0)).begin_s == Fraction(10, 25)
    matroska = scanned(make_video("a.mkv", times=times, b_frames=0, rate=25))
    assert shown_s(matroska) == [0.4, 0.48, 0.6, 1.0]
    assert matroska.end_s > 1
    one = scanned(make_video("one.mkv", times=[0]))
    assert one.end_s == Fraction(1, 25)


def test_containers_without_presentation_times_are_decoded_whole(make_video) -> None:
    assert not scanned(make_video("b.avi", codec="mpeg4", b_frames=2)).can_skip
    assert not scanned(make_video("b.h264")).can_skip
    assert scanned(make_video("no_b.avi", codec="mpeg4", b_frames=0)).can_skip


def test_what_an_edit_list_cuts_off_is_not_shown(make_video, ffmpeg, tmp_path: Path) -> None:
    ffmpeg("-ss", "0.7", "-i", make_video("a.mp4", b_frames=2), "-c", "copy", tmp_path / "cut.mp4")
    timeline = scanned(tmp_path / "cut.mp4")
    assert (~timeline.is_shown).sum() > 0
    assert timeline.begin_s == 0
    assert timeline.end_s == pytest.approx(1.3, abs=0.041)


def test_a_recording_that_starts_between_key_frames_begins_at_the_first(make_video) -> None:
    path = make_video("a.ts", num_frames=100, gop=25, options={"x264-params": "scenecut=0"})
    whole = scanned(path)
    packets = path.read_bytes()
    path.write_bytes(packets[len(packets) // 188 // 4 * 188 :])
    timeline = scanned(path)
    keys = whole.ticks[whole.is_key]
    assert timeline.begin in keys.tolist()
    assert timeline.begin > whole.begin
    assert timeline.end == whole.end


def test_damage_forbids_skipping(make_video) -> None:
    path = make_video("a.ts", num_frames=60, size=(160, 120))
    data = bytearray(path.read_bytes())
    middle = len(data) // 188 // 2 * 188
    path.write_bytes(data[:middle] + data[middle + 188 * 7 :])  # lost packets: the counters have a gap
    timeline = scanned(path)
    assert timeline.num_damaged > 0
    assert not timeline.can_skip


def test_a_clock_that_runs_back_is_counted(make_video) -> None:
    path = make_video("a.ts")
    path.write_bytes(path.read_bytes() * 2)
    assert 45 <= scanned(path).num_late <= 50


@pytest.mark.parametrize(
    ("name", "frames"),
    [("a.mp4", {20}), ("a.mp4", {20, 21, 22}), ("b.mkv", {20}), ("b.mkv", {20, 21, 22}), ("b.mkv", {0})],
)
def test_a_clock_that_leaps_and_comes_back(make_video, name: str, frames: set[int], with_times) -> None:
    path = make_video("a.mp4", b_frames=0)
    timeline = scanned(with_times(path, lambda number: 100_000 * (number in frames), name))
    assert not timeline.can_skip
    assert len(timeline.strays) == len(frames)
    assert timeline.begin_s == Fraction(0 in frames, 25)
    assert float(timeline.end_s) == pytest.approx(2, abs=2e-3)
    assert (timeline.gaps, timeline.num_damaged) == ((), 0)


def test_long_waits_for_the_next_frame_are_gaps(make_video) -> None:
    assert scanned(make_video("slides.mp4", times=[0, 60, 660, 720], rate=1, b_frames=0)).gaps == ()
    timeline = scanned(make_video("leap.mp4", times=[0, 60, 661, 100_000], rate=1, b_frames=0))
    assert timeline.gaps_s == [(60, 661), (661, 100_000)]
    assert timeline.can_skip


def test_progress_grows_with_the_packets(make_video) -> None:
    counts: list[int] = []
    scan(str(make_video("a.mkv", num_frames=600, codec="mjpeg", pixel_format="yuvj420p")), progress=counts.append)
    assert counts == [256, 512]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        scanned(tmp_path / "none.mp4")


def test_every_real_video_has_as_many_frames_as_the_index_says(shared_videos: Path) -> None:
    """Packets that are shown, against decoded counts that others took; only B-frames in AVI can't be told so."""
    lines = (shared_videos.parent / "INDEX.md").read_text().splitlines()
    counts = dict(m.groups() for line in lines if (m := re.match(r"\| `videos/(\S+)` .*?(\d+) frames", line)))
    assert len(counts) == 24
    for name, count in counts.items():
        timeline = scanned(shared_videos / name)
        if timeline.can_skip:
            assert timeline.is_shown.sum() == int(count), name
        else:
            assert name.endswith(".avi"), name
