from __future__ import annotations

import io
import json
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.video import decode
from pipeline.video.decode import Decoded, SampledClip, sample_video
from pipeline.video.errors import VideoError
from pipeline.video.sample import Grid
from schemas.config import Clips
from schemas.manifest import Segment, VideoRow

GOLDEN = Path(__file__).resolve().parents[2] / "golden/frame_times.json"
GOLDEN_VIDEOS = json.loads(GOLDEN.read_text())["videos"]


def a_row(*, start_s: float | None = None, end_s: float | None = None, segments: tuple = ()) -> VideoRow:
    return VideoRow("v", "v", None, ("x",), (7,), start_s, end_s, tuple(Segment(*s) for s in segments))


def pts_of(frame: Any) -> float:
    return float(frame.pts * frame.time_base)


def sampled(
    source: Any,
    spec: Clips,
    row: VideoRow | None = None,
    *,
    convert: Callable[[Any], Any] = pts_of,
    progress: Callable[[int], None] = lambda count: None,
    grid: Grid | None = None,
) -> tuple[list[SampledClip], Decoded]:
    source = str(source) if isinstance(source, Path) else source
    found = sample_video(source, row or a_row(), spec, convert=convert, progress=progress, grid=grid)
    clips = []
    while True:
        try:
            clips.append(next(found))
        except StopIteration as stop:
            return clips, stop.value


def on_display(times: list[Fraction], at: Fraction) -> float:
    """The rule, as plainly as it can be said: the last frame with pts <= t, or the first frame."""
    return float(max((t for t in times if t <= at), default=times[0]))


# ---------------------------------------------------------------- which frames


@pytest.mark.parametrize("name", GOLDEN_VIDEOS)
@pytest.mark.parametrize(("frames", "fps", "stride"), [(16, "5", "3.2"), (8, "12.5", "0.5"), (4, "29.97", "1.7")])
def test_frame_times_are_those_of_ffmpeg(shared_videos: Path, name: str, frames: int, fps: str, stride: str) -> None:
    if name.startswith("long/") and frames != 16:
        pytest.skip("the long videos are checked with one setting")
    golden = GOLDEN_VIDEOS[name]
    base = Fraction(*golden["time_base"])
    times = [pts * base for pts in golden["pts"]]
    end = times[-1] + golden["last_duration"] * base
    expected = []
    start = times[0]
    while start < end:
        grid = [start + k / Fraction(fps) for k in range(frames)]
        real = [on_display(times, at) for at in grid if at < end]
        expected.append((float(start), len(real), real + real[-1:] * (frames - len(real))))
        if len(real) < frames:
            break
        start += Fraction(stride)
    clips, outcome = sampled(shared_videos / name, Clips(frames=frames, fps=float(fps), stride_s=float(stride)))
    assert [(c.start_s, c.num_real_frames, c.frame_pts_s) for c in clips] == expected
    assert (outcome.partial, outcome.reason, outcome.message) == (False, "", "")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize("first", [0, 33])
def test_varying_intervals_and_late_starts(make_video, name: str, first: int) -> None:
    steps = np.random.default_rng(0).integers(1, 9, 40)
    times = (first + np.cumsum(steps)).tolist()
    path = make_video(name, times=times, rate=25, gop=9, b_frames=0 if name == "a.ts" else 2)
    clips, _ = sampled(path, Clips(frames=6, fps=3, stride_s=1.1))
    begin = Fraction(str(round(clips[0].start_s, 6)))
    if name != "a.ts":  # its muxer adds a delay of its own
        assert begin == Fraction(times[0], 25)
    shown = [begin + Fraction(t - times[0], 25) for t in times]
    for clip in clips:
        grid = [Fraction(str(round(clip.start_s, 6))) + Fraction(k, 3) for k in range(clip.num_real_frames)]
        # grid times never fall on a frame here, so rounding of the container's clock decides nothing
        assert clip.frame_pts_s[: len(grid)] == pytest.approx([on_display(shown, at) for at in grid], abs=1.1e-3)


def test_a_frame_is_on_display_from_its_own_time_on(make_video) -> None:
    clips, _ = sampled(make_video("a.mp4", num_frames=25), Clips(frames=5, fps=5))
    assert clips[0].frame_pts_s == [0.0, 0.2, 0.4, 0.6, 0.8]  # frames 0, 5, 10 … exactly, not the ones before


def test_the_frame_handed_over_is_the_one_whose_time_is_written(make_video) -> None:
    path = make_video("a.mkv", num_frames=60, b_frames=3)
    clips, outcome = sampled(path, Clips(frames=4, fps=3, stride_s=0.4))
    assert len(clips) == 5
    assert all(clip.frames == clip.frame_pts_s for clip in clips)
    assert len({t for clip in clips for t in clip.frame_pts_s}) == outcome.num_frames_used


def test_padding_and_loops_repeat_real_frames(make_video) -> None:
    path = make_video("a.mp4", num_frames=25)
    padded = sampled(path, Clips(frames=8, fps=5, tail="pad"))[0]
    looped = sampled(path, Clips(frames=8, fps=5, tail="loop"))[0]
    assert [(c.num_real_frames, c.end_s) for c in padded + looped] == [(5, 1.0)] * 2
    assert padded[0].frame_pts_s == [0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8]
    assert looped[0].frames == looped[0].frame_pts_s == [0.0, 0.2, 0.4, 0.6, 0.8, 0.0, 0.2, 0.4]
    dropped, outcome = sampled(path, Clips(frames=8, fps=5, tail="drop"))
    assert (dropped, outcome) == ([], Decoded(0, 0))


def test_only_the_span_of_the_row_is_used(make_video) -> None:
    path = make_video("a.mp4", num_frames=250, gop=25)
    clips, outcome = sampled(path, Clips(frames=4, fps=4), a_row(start_s=3.1, end_s=5.6))
    assert [(c.clip_id, c.num_real_frames) for c in clips] == [
        ("v@3100000-4100000", 4),
        ("v@4100000-5100000", 4),
        ("v@5100000-5600000", 2),
    ]
    assert clips[0].frame_pts_s == [3.08, 3.32, 3.6, 3.84]
    assert outcome.num_frames_decoded < 75
    with pytest.raises(VideoError, match=r"asks for \[30.0, end\) s, but the video shows \[0.000, 10.000\) s"):
        sampled(path, Clips(frames=4, fps=4), a_row(start_s=30.0))


def test_segments_outside_the_video_are_named(make_video) -> None:
    path, spec = make_video("a.mp4"), Clips(frames=4, fps=4, windows="segment")
    clips, outcome = sampled(path, spec, a_row(segments=((0, 1, 3), (5, 6, 4))))
    assert [clip.label_ids for clip in clips] == [(3,)]
    assert (outcome.partial, outcome.reason) == (True, "segments_outside")
    with pytest.raises(VideoError, match="none of its segments"):
        sampled(path, spec, a_row(segments=((5, 6, 4),)))


# ---------------------------------------------------------------- cost


def test_each_frame_is_converted_once_and_dropped_when_done_with(make_video) -> None:
    class Picture:
        pass

    alive: weakref.WeakSet[Picture] = weakref.WeakSet()
    seen: list[int] = []
    most = 0

    def convert(frame: Any) -> Picture:
        nonlocal most
        seen.append(frame.pts)
        picture = Picture()
        alive.add(picture)
        most = max(most, len(alive))
        return picture

    path = make_video("a.mp4", num_frames=400)
    found = sample_video(
        str(path), a_row(), Clips(frames=8, fps=5, stride_s=0.4), convert=convert, progress=lambda n: None
    )
    num_clips = sum(len(clip.frames) == 8 for clip in found)
    assert num_clips == 38  # starts 0, .4 … 14.8: the first that is no longer whole is the last
    assert len(seen) == len(set(seen)) == 80
    assert most <= 8 + 4  # a clip, and what its successors already share


def test_progress_never_falls_and_moves_with_every_decoded_frame(make_video) -> None:
    counts: list[int] = []
    _, outcome = sampled(make_video("a.mp4", num_frames=300), Clips(frames=8, fps=25), progress=counts.append)
    assert counts == sorted(counts)
    assert len(set(counts)) >= outcome.num_frames_decoded - 8  # those that come out together at the end


def test_skipping_and_decoding_everything_agree(make_video, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("a.mp4", num_frames=120, gop=20)
    spec = Clips(frames=6, fps=4, windows="random", num_clips=3)
    few, cheap = sampled(path, spec, convert=lambda f: f.to_ndarray().tobytes())

    def surprise(*arguments: object) -> Any:
        raise decode.SurpriseError("as if the packets had lied")
        yield

    monkeypatch.setattr(decode, "needed_frames", surprise)
    every, dear = sampled(path, spec, convert=lambda f: f.to_ndarray().tobytes())
    assert few == every
    assert cheap.num_frames_decoded < dear.num_frames_decoded


def test_an_open_file_serves_as_well_as_a_path(make_video) -> None:
    path = make_video("a.mkv", num_frames=80)
    spec = Clips(frames=6, fps=4)
    with path.open("rb") as file:
        assert sampled(file, spec) == sampled(path, spec)
    assert sampled(io.BytesIO(path.read_bytes()), spec) == sampled(path, spec)


# ---------------------------------------------------------------- damage


def damaged(path: Path, share: float, num_bytes: int) -> Path:
    """The same file with some bytes of its pictures overwritten, from `share` of the way through."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    at = start + int((len(data) - start) * share)
    data[at : at + num_bytes] = b"\xff" * num_bytes
    path.write_bytes(data[: len(data)])
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4")]
)
def test_what_is_left_of_a_cut_file_is_used(make_video, name: str, codec: str) -> None:
    mux = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = make_video(name, codec=codec, num_frames=200, mux=mux, b_frames=0)
    whole, _ = sampled(path, Clips(frames=5, fps=5))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clips, outcome = sampled(path, Clips(frames=5, fps=5))
    assert (outcome.partial, outcome.reason) == (True, "truncated")
    assert f"{clips[-1].end_s:.3f} s" in outcome.message
    assert 3 <= len(clips) < len(whole)
    assert clips[:-1] == whole[: len(clips) - 1]


def test_a_hole_shows_the_last_good_frame(make_video) -> None:
    options = {"x264-params": "scenecut=0"}
    path = make_video("a.mp4", num_frames=200, gop=20, options=options, mux={"movflags": "faststart"}, b_frames=0)
    whole, _ = sampled(path, Clips(frames=25, fps=25))
    assert not _.partial
    clips, outcome = sampled(damaged(path, 0.5, 1500), Clips(frames=25, fps=25))
    assert (outcome.partial, outcome.reason) == (True, "decode_errors")
    assert [c.clip_id for c in clips] == [c.clip_id for c in whole]
    good = [t for clip in clips for t in clip.frame_pts_s]
    every = [t for clip in whole for t in clip.frame_pts_s]
    assert good == [max(g for g in set(good) if g <= t) for t in every]
    assert 0 < len(set(every) - set(good)) < 60
    assert max(good) == max(every)


def test_damage_up_to_the_end_ends_the_video(make_video) -> None:
    path = make_video("a.mp4", num_frames=200, gop=20, mux={"movflags": "faststart"}, b_frames=0)
    clips, outcome = sampled(damaged(path, 0.5, 10**6), Clips(frames=25, fps=25))
    assert (outcome.partial, outcome.reason) == (True, "decode_errors")
    assert "clips at the end are short or missing" in outcome.message
    assert 3 <= len(clips) <= 5
    assert clips[-1].frame_pts_s[-1] < 5
    assert len(set(clips[-1].frame_pts_s)) == clips[-1].num_real_frames


def test_frames_that_exist_only_after_many_undecodable_packets(make_video) -> None:
    options = {"x264-params": "scenecut=0"}
    path = make_video("a.mp4", num_frames=200, gop=20, options=options, mux={"movflags": "faststart"}, b_frames=0)
    size = len(path.read_bytes())
    clips, outcome = sampled(damaged(path, 0.0, size // 2), Clips(frames=5, fps=5))
    assert clips
    assert 3 < clips[0].start_s < 6
    assert clips[0].frame_pts_s[0] == clips[0].start_s
    assert (outcome.partial, outcome.reason) == (True, "decode_errors")


def test_a_video_of_which_nothing_decodes(make_video) -> None:
    path = damaged(make_video("a.mp4", mux={"movflags": "faststart"}), 0.0, 10**6)
    with pytest.raises(VideoError, match="not one frame") as caught:
        sampled(path, Clips(frames=5, fps=5))
    assert caught.value.reason == "no_frames"


def test_a_clock_that_starts_again_ends_the_video(make_video) -> None:
    path = make_video("a.ts", num_frames=50)
    once, _ = sampled(path, Clips(frames=5, fps=5))
    path.write_bytes(path.read_bytes() * 2)
    clips, outcome = sampled(path, Clips(frames=5, fps=5))
    assert [c.frame_pts_s for c in clips] == [c.frame_pts_s for c in once]
    assert (outcome.partial, outcome.reason) == (True, "clock_runs_back")


def test_a_clock_that_leaps_ahead_and_comes_back_costs_its_frame(make_video, with_times) -> None:
    path = make_video("a.mp4", num_frames=100, b_frames=0)
    whole, _ = sampled(path, Clips(frames=5, fps=5))
    clips, outcome = sampled(
        with_times(path, lambda number: 100_000 * (number == 40), "leaping.mkv"), Clips(frames=5, fps=5)
    )
    assert (outcome.partial, outcome.reason) == (True, "clock_jumps")
    assert [c.clip_id for c in clips] == [c.clip_id for c in whole]
    expected = [t if t != 1.6 else 1.56 for c in whole for t in c.frame_pts_s]
    assert [t for c in clips for t in c.frame_pts_s] == expected


def test_a_clock_that_leaps_back_for_one_frame_costs_that_frame(make_video, with_times) -> None:
    path = make_video("a.mp4", num_frames=100, b_frames=0)
    clips, outcome = sampled(
        with_times(path, lambda number: 20_000 * (number != 40), "leaping.mkv"), Clips(frames=5, fps=5)
    )
    assert (outcome.partial, outcome.reason) == (True, "clock_runs_back")
    assert len(clips) == 4


@pytest.mark.parametrize("windows", ["stride", "uniform"])
def test_a_clock_that_leaps_for_good_makes_no_frozen_clips(make_video, windows: str) -> None:
    path = make_video("a.mkv", times=[*range(50), *range(10**8, 10**8 + 50)], b_frames=0)  # 46 days
    num_clips = 5 if windows == "uniform" else None
    clips, outcome = sampled(path, Clips(frames=5, fps=5, windows=windows, num_clips=num_clips))
    assert (outcome.partial, outcome.reason) == (True, "clock_jumps")
    assert len(clips) == (4 if windows == "stride" else 2)
    assert ("3999998 clips" if windows == "stride" else "3 clips") in outcome.message


def test_slides_that_stay_for_a_minute_give_all_their_clips(make_video) -> None:
    clips, outcome = sampled(make_video("a.mp4", times=[0, 60, 120], rate=1, b_frames=0), Clips(frames=4, fps=0.4))
    assert not outcome.partial
    assert [t for c in clips[:12] for t in c.frame_pts_s] == [t for t in (0.0, 60.0) for _ in range(24)]


@pytest.mark.parametrize(("tail", "num_clips"), [("pad", 1), ("loop", 1), ("drop", 0)])
def test_a_clip_that_damage_cuts_short_is_a_tail(make_video, tail: str, num_clips: int) -> None:
    path = make_video("a.mp4", num_frames=50, gop=10, mux={"movflags": "faststart"}, b_frames=0)
    clips, outcome = sampled(damaged(path, 0.3, 10**6), Clips(frames=10, fps=5, tail=tail))
    assert (outcome.partial, outcome.reason) == (True, "decode_errors")
    assert len(clips) == num_clips
    assert all(1 <= clip.num_real_frames < 10 for clip in clips)


def test_the_size_may_change_on_the_way(make_video, ffmpeg, tmp_path: Path) -> None:
    small, large, late = make_video("s.ts"), make_video("l.ts", size=(128, 96)), tmp_path / "late.ts"
    ffmpeg("-i", large, "-c", "copy", "-output_ts_offset", "3", late)
    small.write_bytes(small.read_bytes() + late.read_bytes())
    clips, _ = sampled(small, Clips(frames=5, fps=5), convert=lambda f: (f.width, f.height))
    sizes = [size for clip in clips for size in clip.frames]
    assert sizes[0] == (64, 48)
    assert sizes[-1] == (128, 96)
    assert sizes == sorted(sizes)


def test_the_corrupted_real_video_gives_what_is_left(shared_videos: Path) -> None:
    clips, outcome = sampled(shared_videos / "odd/corrupted.mp4", Clips(frames=16, fps=5))
    assert [clip.num_real_frames for clip in clips] == [16, 9]
    assert (outcome.partial, outcome.reason) == (True, "decode_errors")


# ---------------------------------------------------------------- another grid in the same windows


@pytest.mark.parametrize("tail", ["pad", "drop", "loop"])
def test_another_grid_takes_the_frames_of_its_own_times(make_video, tail: str) -> None:
    video = make_video("a.mp4", num_frames=45)  # 1.8 s
    spec = Clips(frames=5, fps=5, stride_s=0.4, tail=tail)
    clips, outcome = sampled(video, spec)
    other, same = sampled(video, spec, grid=Grid(12.5, 13))
    assert [(c.clip_id, c.start_s, c.end_s) for c in other] == [(c.clip_id, c.start_s, c.end_s) for c in clips]
    assert (same.partial, same.reason) == (outcome.partial, outcome.reason) == (False, "")
    for clip in other:
        grid = [clip.start_s + k * 0.08 for k in range(13)]
        expected = [int(at * 25 + 1e-6) / 25 for at in grid if at < 1.8 - 1e-6]
        assert clip.frame_pts_s == clip.frames == pytest.approx(expected)
        assert clip.num_real_frames == len(expected)


def test_a_closing_frame_beyond_the_end_costs_no_clip(make_video) -> None:
    video = make_video("a.mp4", num_frames=25)
    (clip,), outcome = sampled(video, Clips(frames=5, fps=5, tail="drop"), grid=Grid(5, 6))
    assert (clip.num_real_frames, outcome.partial) == (5, False)


@pytest.mark.parametrize("tail", ["pad", "drop"])
def test_on_another_grid_damage_costs_no_window_that_has_begun(make_video, tail: str) -> None:
    """Whether drop leaves a clip out for damage may hang on frames that another grid never looks at."""
    path = make_video("a.mp4", num_frames=50, gop=10, mux={"movflags": "faststart"}, b_frames=0)
    video = damaged(path, 0.5, 10**6)
    clips, outcome = sampled(video, Clips(frames=5, fps=25, tail=tail))
    padded, _ = sampled(video, Clips(frames=5, fps=25))
    other, same = sampled(video, Clips(frames=5, fps=25, tail=tail), grid=Grid(25, 6))
    assert outcome.partial
    assert len(padded) - len(clips) == (tail == "drop")
    assert [clip.clip_id for clip in other] == [clip.clip_id for clip in padded]
    assert (same.partial, same.reason) == (True, outcome.reason)


def test_a_short_clip_that_is_whole_before_the_damage_is_not_counted_as_short(make_video) -> None:
    path = make_video("a.mp4", num_frames=50, gop=10, mux={"movflags": "faststart"}, b_frames=0)
    row = a_row(segments=((0.0, 2.0, 0), (0.2, 0.4, 0)))
    clips, outcome = sampled(damaged(path, 0.5, 10**6), Clips(frames=10, fps=5, windows="segment"), row)
    assert [clip.num_real_frames < 10 for clip in clips] == [True, True]
    assert "and 1 clips at the end are short or missing" in outcome.message
