"""What a video may take, told without waiting for it."""

from __future__ import annotations

import pytest

from pipeline.storage.patience import PATIENCE_VARIABLE
from pipeline.video import time_left
from pipeline.video.errors import VideoError
from pipeline.video.time_left import SLICE_S, TimeLeft
from schemas.config import Limits
from schemas.errors import StorageError


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> TimeLeft:
    monkeypatch.setenv(PATIENCE_VARIABLE, "1")
    monkeypatch.setattr(time_left, "STORAGE_SPARE_S", 0.0)
    return TimeLeft(Limits(stall_s=2, video_s=3), where="/data/a.mp4")


def wait(left: TimeLeft, seconds: float, *, for_disk: bool = False) -> None:
    for _ in range(int(seconds / SLICE_S)):
        assert 0 < left.slice_s() <= SLICE_S
        left.waited(SLICE_S, for_disk=for_disk)


def test_without_anything_new_it_has_stalled(left: TimeLeft) -> None:
    wait(left, 2)
    with pytest.raises(VideoError, match=r"no progress for 2 s \(limits.stall_s\)") as caught:
        left.slice_s()
    assert caught.value.reason == "stalled"


def test_with_something_new_now_and_then_it_is_too_slow_at_last(left: TimeLeft) -> None:
    wait(left, 1.5)
    left.advanced()
    wait(left, 1.5)
    left.advanced()
    with pytest.raises(VideoError, match=r"more than 3 s \(limits.video_s\)") as caught:
        left.slice_s()
    assert caught.value.reason == "too_slow"


def test_a_machine_asleep_accuses_no_video(left: TimeLeft) -> None:
    left.waited(10_000.0, for_disk=False)
    assert left.slice_s() == SLICE_S


def test_waiting_for_storage_is_not_the_videos_time(left: TimeLeft) -> None:
    for _ in range(10):
        left.waits_for_storage(True)
        wait(left, 0.5)
        left.waits_for_storage(False)
    wait(left, 2)  # all of it is still there


def test_a_decoder_that_asks_storage_beyond_its_patience_has_stalled(left: TimeLeft) -> None:
    left.waits_for_storage(True)
    wait(left, 1)
    with pytest.raises(VideoError, match="no progress"):
        left.slice_s()


def test_a_disk_that_does_not_answer_is_not_the_videos_fault(left: TimeLeft) -> None:
    wait(left, 0.5, for_disk=True)
    left.advanced()
    wait(left, 1, for_disk=True)
    with pytest.raises(StorageError, match=r"/data/a.mp4: the disk or mount that it lies on does not answer"):
        left.slice_s()
