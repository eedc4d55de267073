"""Real decoder processes, killed, stopped, spinning and crashing; what is left of them is read from /proc."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.storage.patience import PATIENCE_VARIABLE, telling
from pipeline.store import Store
from pipeline.video import guard, time_left
from pipeline.video.encode import decode_frames
from pipeline.video.errors import VideoError
from pipeline.video.guard import Decoder
from pipeline.video.wire import EncodedClip, Outcome
from schemas.config import Clips, Limits
from schemas.errors import ReelmillError, StorageError
from schemas.manifest import VideoRow

HERE = Path(__file__).parent
SPEC = Clips(frames=5, fps=5, resize=(48, 64), encoding="npy")
PATIENT = Limits(stall_s=60, video_s=600)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def write_video(path: Path, *, num_frames: int = 75, size: tuple[int, int] = (48, 64)) -> Path:
    """mpeg4 at 25 fps whose brightness tells the second: 40, 80, 120 …"""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"q": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for index in range(num_frames):
            pixels = np.full((*size, 3), 40 * (1 + index // 25), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def video(tmp_path: Path) -> Callable[[str], VideoRow]:
    """A row for a good three-second video under a name of choice."""
    original = write_video(tmp_path / "original.avi")

    def row(name: str) -> VideoRow:
        path = tmp_path / f"{name}.avi"
        if not path.exists():
            path.write_bytes(original.read_bytes())
        return VideoRow(name, str(path), None, (), (3,), None, None)

    return row


@pytest.fixture
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    """A Decoder that knows the misdeeds of misbehaving_decoder.py; its limits are the test's parameter."""
    monkeypatch.syspath_prepend(HERE)
    with Decoder(getattr(request, "param", PATIENT), module="misbehaving_decoder") as made:
        yield made


def read(decoder: Decoder, row: VideoRow, spec: Clips = SPEC) -> tuple[list[EncodedClip], Outcome]:
    clips, generator = [], decoder.clips(row, spec)
    while True:
        try:
            clips.append(next(generator))
        except StopIteration as stop:
            return clips, stop.value


def assert_reads_well(decoder: Decoder, row: VideoRow) -> None:
    clips, outcome = read(decoder, row)
    assert [(clip.start_s, clip.end_s) for clip in clips] == [(0, 1), (1, 2), (2, 3)]
    assert not outcome.partial
    assert outcome.num_frames_used == 15
    for second, clip in enumerate(clips):
        assert clip.label_ids == (3,)
        assert (clip.height_px, clip.width_px, clip.num_real_frames) == (48, 64, 5)
        assert clip.frame_pts_s == pytest.approx([second + k / 5 for k in range(5)])
        assert np.abs(decode_frames(clip.members, "npy").astype(int) - 40 * (1 + second)).max() <= 3


def is_gone(pid: int) -> bool:
    """No such process, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 30 s")


def num_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> set[int]:
    lines = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for line in lines for pid in line.split()}


# ---------------------------------------------------------------- ordinary life


def test_one_process_reads_many_videos(decoder, video):
    assert_reads_well(decoder, video("ordinary"))
    pid = decoder.pid
    assert pid is not None
    for _ in range(3):
        assert_reads_well(decoder, video("ordinary"))
    assert decoder.pid == pid
    decoder.close()
    assert is_gone(pid)


def test_the_product_s_own_module_reads_too(video):
    with Decoder(PATIENT) as decoder:
        assert_reads_well(decoder, video("ordinary"))


@pytest.mark.parametrize("encoding", ["jpeg", "mp4", "npy"])
def test_every_encoding_arrives_whole(decoder, video, encoding):
    spec = SPEC.model_copy(update={"encoding": encoding})
    clips, _ = read(decoder, video("ordinary"), spec)
    frames = decode_frames(clips[1].members, encoding)
    assert frames.shape == (5, 48, 64, 3)
    assert np.abs(frames.astype(int) - 80).max() <= 5


def test_what_libraries_print_stays_out_of_the_way(decoder, video):
    clips, _ = read(decoder, video("chatty"))
    assert len(clips) == 3
    assert_reads_well(decoder, video("ordinary"))


def test_a_request_larger_than_a_pipe_gets_through(decoder, video):
    row = video("ordinary")
    labels = tuple(f"label {number}" for number in range(200_000))
    crowded = VideoRow(row.video_id, row.uri, None, labels, (3,), None, None)
    assert_reads_well(decoder, crowded)


def test_a_slow_reader_is_not_a_stalled_decoder(video):
    with Decoder(Limits(stall_s=2, video_s=4)) as decoder:
        assert_reads_well(decoder, video("ordinary"))  # the start of the process is not the video's time
        for number, _ in enumerate(decoder.clips(video("ordinary"), SPEC)):
            time.sleep(2.5 if number < 2 else 0)
        assert number >= 1


def test_leaving_a_video_early_spoils_nothing(decoder, video):
    with closing(decoder.clips(video("ordinary"), SPEC)) as clips:
        next(clips)
    assert_reads_well(decoder, video("ordinary"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_the_whole_group_is_the_parent_s_to_answer(decoder, video, name):
    read(decoder, video("ordinary"))
    pid = decoder.pid
    os.kill(pid, signal.Signals[name])
    assert_reads_well(decoder, video("ordinary"))
    assert decoder.pid == pid


def test_the_decoder_process_starts_without_what_it_has_no_use_for():
    script = "import sys, pipeline.video.decoder_process; print({'pyarrow', 'pydantic', 'torch'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=HERE.parents[2], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("settings", [{"crop": (32, 40)}, {"resize": None, "short_side": 24}, {"windows": "segment"}])
def test_settings_arrive_as_they_were(decoder, video, settings):
    clips, _ = read(decoder, video("ordinary"), Clips.model_validate({**SPEC.model_dump(), **settings}))
    size = {"crop": (32, 40), "short_side": (24, 32)}.get(next(reversed(settings)), (48, 64))
    assert {(clip.height_px, clip.width_px) for clip in clips} == {size}
    assert len(clips) == (1 if "windows" in settings else 3)


def test_the_parent_needs_no_video_library():
    script = "import sys, pipeline.video.guard; print({'av', 'cv2', 'torch'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=HERE.parents[2], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


# ---------------------------------------------------------------- misdeeds


@pytest.mark.parametrize(
    ("decoder", "name", "reason", "words"),
    [
        (Limits(stall_s=1), "spin", "stalled", "no progress for 1 s"),
        (Limits(stall_s=1), "hang", "stalled", "no progress for 1 s"),
        (Limits(stall_s=1), "spin_late", "stalled", "no progress for 1 s"),
        (Limits(stall_s=30, video_s=1), "crawl", "too_slow", "more than 1 s"),
        (Limits(memory_gb=0.2), "hog", "out_of_memory", "more than 0.2 GB"),
        (PATIENT, "segfault", "crashed", "SIGSEGV"),
        (PATIENT, "abort", "crashed", "SIGABRT"),
        (PATIENT, "exit", "crashed", "status 7"),
        (PATIENT, "noise", "crashed", "makes no sense"),
        (PATIENT, "surprise", "decoder_error", "KeyError: '0x…'"),
    ],
    indirect=["decoder"],
)
def test_a_misdeed_costs_its_own_video(decoder, video, name, reason, words):
    with pytest.raises(VideoError, match=words) as caught:
        read(decoder, video(name))
    assert caught.value.reason == reason
    assert_reads_well(decoder, video("ordinary"))
    pid = decoder.pid
    assert children() >= {pid}
    decoder.close()
    assert pid not in children()


def test_the_last_words_of_a_crash_are_kept_without_addresses(decoder, video):
    with pytest.raises(VideoError) as caught:
        read(decoder, video("crash_late"))
    assert caught.value.message == "the decoder crashed with SIGSEGV: assertion failed at 0x…: frame != NULL"


def test_kill_9_in_the_middle_of_a_video(decoder, video):
    generator = decoder.clips(video("hang_late"), SPEC)
    next(generator)
    pid = decoder.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(VideoError, match="SIGKILL") as caught:
        list(generator)
    assert caught.value.reason == "crashed"
    assert is_gone(pid)
    assert_reads_well(decoder, video("ordinary"))


@pytest.mark.parametrize("decoder", [Limits(stall_s=1)], indirect=True)
def test_a_stopped_decoder_is_a_stalled_one(decoder, video):
    read(decoder, video("ordinary"))
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(VideoError) as caught:
        read(decoder, video("ordinary"))
    assert caught.value.reason == "stalled"
    assert is_gone(pid)
    assert_reads_well(decoder, video("ordinary"))


def test_a_decoder_that_died_between_videos_costs_nothing(decoder, video):
    read(decoder, video("ordinary"))
    pid = decoder.pid
    os.kill(pid, signal.SIGKILL)
    # its main thread is a zombie a moment before the process as a whole can be waited for
    wait_for(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
    assert_reads_well(decoder, video("ordinary"))
    assert is_gone(pid)


def test_frames_too_large_for_the_memory_limit(tmp_path):
    big = write_video(tmp_path / "big.avi", num_frames=2, size=(3000, 4000))
    row = VideoRow("big", str(big), None, (), (), None, None)
    with Decoder(Limits(memory_gb=0.06)) as decoder, pytest.raises(VideoError, match=r"0\.06 GB") as caught:
        read(decoder, row)
    assert caught.value.reason == "out_of_memory"
    with Decoder(PATIENT) as decoder:
        assert len(read(decoder, row)[0]) == 1


@pytest.mark.parametrize("memory_mb", [1, 5, 9, 15])
def test_memory_that_libav_takes_for_damage(tmp_path, memory_mb):
    """libav's h264 decoder answers some failed allocations with frames that do not come."""
    path = tmp_path / "a.mkv"
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 1080, 1920, "yuv420p"
        for _ in range(4):
            pixels = noise.integers(0, 255, (1080, 1920, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    row = VideoRow("v", str(path), None, (), (), None, None)
    with Decoder(Limits(memory_gb=memory_mb / 1000)) as decoder, pytest.raises(VideoError) as caught:
        read(decoder, row)
    assert caught.value.reason == "out_of_memory"
    assert "limits.memory_gb" in caught.value.message


def test_input_that_is_not_there_or_not_readable(decoder, video, tmp_path):
    cases = {
        str(tmp_path / "gone.mp4"): "missing",
        str(tmp_path): "unreadable",
        f"file://{tmp_path}/gone.mp4": "missing",
        "nosuch://bucket/video.mp4": "unreadable",
    }
    for uri, reason in cases.items():
        with pytest.raises(VideoError) as caught:
            read(decoder, VideoRow("v", uri, None, (), (), None, None))
        assert caught.value.reason == reason, uri
    assert_reads_well(decoder, video("ordinary"))


def test_a_uri_is_read_in_ranges(decoder, video):
    row = video("ordinary")
    assert_reads_well(decoder, VideoRow("v", f"file://{row.uri}", None, (), (3,), None, None))


def test_an_object_store_is_read_in_ranges(video, s3_uri):
    row = video("ordinary")
    Store(s3_uri.format("guard")).put("ordinary.avi", Path(row.uri).read_bytes())
    with Decoder(PATIENT) as decoder:
        assert_reads_well(decoder, VideoRow("v", s3_uri.format("guard/ordinary.avi"), None, (), (3,), None, None))
        with pytest.raises(VideoError) as caught:
            read(decoder, VideoRow("v", s3_uri.format("guard/gone.avi"), None, (), (), None, None))
    assert caught.value.reason == "missing"


# ---------------------------------------------------------------- a storage that is away


def of_bucket(scripted, row: VideoRow) -> VideoRow:
    scripted.objects["ordinary.avi"] = Path(row.uri).read_bytes()
    return VideoRow("v", scripted.uri("ordinary.avi"), None, (), (3,), None, None)


def test_a_storage_that_is_away_for_longer_than_a_decoder_may_stall_is_waited_for(scripted, video):
    row = of_bucket(scripted, video("ordinary"))
    scripted.troubles["GET"] = ["503", "reset"] * 5  # some four seconds with our pauses
    with Decoder(Limits(stall_s=2, video_s=600)) as decoder:
        assert_reads_well(decoder, row)
    assert scripted.troubles["GET"] == []


def test_a_storage_that_does_not_answer_the_decoder_is_told_by_its_parent(scripted, video, decoder):
    row = of_bucket(scripted, video("ordinary"))
    scripted.troubles["GET"] = ["503"] * 8  # a second and more
    said = []
    with telling(lambda sentence, is_away: said.append((sentence.split(" (")[0], is_away))):
        assert_reads_well(decoder, row)
    (away, _), (back, _) = said
    assert [is_away for _, is_away in said] == [True, False]
    assert away.endswith("ordinary.avi: storage does not answer")
    assert "ordinary.avi: storage answers again after " in back


@pytest.mark.parametrize("kind", ["HEAD", "GET"])
def test_a_storage_that_stays_away_is_not_the_videos_fault(scripted, video, monkeypatch, kind):
    row = of_bucket(scripted, video("ordinary"))
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    with Decoder(PATIENT) as decoder:
        scripted.troubles[kind] = ["503"] * 1000
        with pytest.raises(StorageError, match=r"ordinary\.avi: storage did not answer for 1 s"):
            read(decoder, row)
        scripted.troubles[kind] = []
        assert_reads_well(decoder, row)


on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="asks the kernel by the number of its call")


@on_x86
@pytest.mark.parametrize("decoder", [Limits(stall_s=1, video_s=2)], indirect=True)
def test_a_mount_that_is_away_for_longer_than_a_decoder_may_stall_is_waited_for(decoder, video):
    assert_reads_well(decoder, video("blocked"))


@on_x86
@pytest.mark.parametrize("decoder", [Limits(stall_s=1, video_s=2)], indirect=True)
def test_a_mount_that_stays_away_is_not_the_videos_fault(decoder, video, monkeypatch):
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    monkeypatch.setattr(time_left, "STORAGE_SPARE_S", 0.0)
    with pytest.raises(StorageError, match=r"blocked\.avi: the disk or mount that it lies on does not answer"):
        read(decoder, video("blocked"))
    assert_reads_well(decoder, video("ordinary"))


def test_an_object_that_is_denied_costs_its_own_row(scripted, video):
    row = of_bucket(scripted, video("ordinary"))
    scripted.troubles["HEAD"] = ["403", "", "403"]  # the object, its bucket, the object
    with Decoder(PATIENT) as decoder, pytest.raises(VideoError, match="storage denies it") as caught:
        read(decoder, row)
    assert caught.value.reason == "unreadable"


# ---------------------------------------------------------------- the long run


def test_nothing_leaks_over_many_videos_and_restarts(decoder, video, monkeypatch):
    monkeypatch.setattr(guard, "VIDEOS_PER_PROCESS", 40)
    read(decoder, video("ordinary"))
    before, pids = num_fds(), set()
    for index in range(120):
        if index % 40 == 39:
            with pytest.raises(VideoError):
                read(decoder, video("segfault"))
        read(decoder, video("ordinary"))
        pids.add(decoder.pid)
    assert num_fds() == before
    assert len(pids) >= 4
    assert children() & pids == {decoder.pid}


def test_a_process_that_saw_many_failures_is_replaced(decoder, video, monkeypatch):
    monkeypatch.setattr(guard, "FAILURES_PER_PROCESS", 3)
    pids = []
    for _ in range(4):
        with pytest.raises(VideoError):
            read(decoder, video("surprise"))
        pids.append(decoder.pid)
    assert pids[0] == pids[1] == pids[2] != pids[3]


def test_a_decoder_that_can_t_start_stops_the_job(video):
    decoder = Decoder(PATIENT, module="no_such_module")
    before = num_fds()
    with pytest.raises(ReelmillError, match=r"can't start: .*No module named no_such_module"):
        read(decoder, video("ordinary"))
    assert num_fds() == before
    assert decoder.pid is None


PARENT = """
import sys, threading; sys.path[:] = {path!r}
from pipeline.video.guard import Decoder
from schemas.config import Clips, Limits
from schemas.manifest import VideoRow

def work():
    decoder = Decoder(Limits(), module="misbehaving_decoder")
    ordinary = VideoRow("v", {ordinary!r}, None, (), (), None, None)
    for _ in decoder.clips(ordinary, Clips(frames=5, fps=5)):
        pass
    print(decoder.pid, flush=True)
    if {busy}:
        for _ in decoder.clips(VideoRow("v", {hang!r}, None, (), (), None, None), Clips(frames=5, fps=5)):
            pass
    threading.Event().wait()

if {thread}:
    threading.Thread(target=work).start()
else:
    work()
"""


@pytest.mark.parametrize(("busy", "thread"), [(False, False), (True, False), (True, True)])
def test_kill_9_of_the_parent_ends_the_decoder(video, busy, thread):
    script = PARENT.format(
        path=[str(HERE), *sys.path],
        ordinary=video("ordinary").uri,
        hang=video("hang").uri,
        busy=busy,
        thread=thread,
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        if busy:
            time.sleep(0.3)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_for(lambda: is_gone(pid))


def test_a_decoder_outlives_the_thread_that_started_it(decoder, video):
    thread = threading.Thread(target=read, args=(decoder, video("ordinary")))
    thread.start()
    thread.join()
    pid = decoder.pid
    time.sleep(0.2)
    assert_reads_well(decoder, video("ordinary"))
    assert decoder.pid == pid
