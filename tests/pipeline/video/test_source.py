from __future__ import annotations

import errno
import io
import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.store import Store
from pipeline.video import source as source_module
from pipeline.video.decode import sample_video
from pipeline.video.errors import VideoError
from pipeline.video.guard import Decoder
from pipeline.video.source import Source, open_source
from pipeline.video.wire import EncodedClip, Outcome
from schemas.config import Clips, Limits
from schemas.errors import StorageError
from schemas.manifest import VideoRow

DATA = os.urandom(3_000_000)
PICTURES = {"codec": "png", "pixel_format": "rgb24", "size": (96, 64)}
SPEC = Clips(frames=16, fps=5, resize=(32, 48), encoding="npy")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    return path


def put(s3_uri: str, path: Path) -> str:
    """Upload a file; its URI."""
    Store(s3_uri.format("videos")).put(path.name, path.read_bytes())
    return s3_uri.format(f"videos/{path.name}")


def read(source: Source, offset: int, num_bytes: int) -> bytes:
    source.file.seek(offset)
    return source.file.read(num_bytes)


def drained(found: Generator[EncodedClip, None, Outcome]) -> tuple[list[EncodedClip], Outcome]:
    clips = []
    while True:
        try:
            clips.append(next(found))
        except StopIteration as stop:
            return clips, stop.value


def test_any_bytes_are_those_of_the_file(file: Path) -> None:
    with open_source(str(file)) as source:
        for offset, num_bytes in [(0, 10), (65_530, 20), (2_999_990, 100), (0, 1_000_000), (3_000_000, 5), (70_000, 0)]:
            assert read(source, offset, num_bytes) == DATA[offset : offset + num_bytes]
        assert source.file.seek(-3, os.SEEK_END) == 2_999_997
        assert source.file.read() == DATA[-3:]
        assert source.file.seek(-1_000_000, os.SEEK_CUR) == source.file.tell() == 2_000_000
        with pytest.raises(OSError, match="before the start"):
            source.file.seek(-1)


def test_small_steps_back_and_forth_read_nothing_again(file: Path) -> None:
    with open_source(str(file)) as source:
        for _ in range(3):
            for offset in (100, 2_000_000, 5000, 2_001_000, 100):
                assert read(source, offset, 50) == DATA[offset : offset + 50]
        assert source.num_bytes_read == 2 * source_module.ON_DISK.num_bytes


def test_what_fits_is_read_once_and_memory_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(str(file)) as source:
        assert read(source, 0, -1) == read(source, 0, -1) == DATA
        assert source.num_bytes_read == len(DATA)
    monkeypatch.setattr(source_module, "ON_DISK", source_module.ON_DISK._replace(kept=4))
    with open_source(str(file)) as source:
        assert read(source, 0, -1) == read(source, 0, -1) == DATA
        assert source.num_bytes_read == 2 * len(DATA)


def test_a_file_that_shrinks_is_an_error_and_not_its_end(file: Path) -> None:
    with open_source(str(file)) as source:
        assert read(source, 0, 5) == DATA[:5]
        os.truncate(file, 100_000)
        with pytest.raises(OSError, match="bytes were asked for"):
            read(source, 1_000_000, 5)


@pytest.mark.parametrize(("name", "reason"), [("nothing.mp4", "missing"), (".", "unreadable")])
def test_what_can_not_be_opened(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(VideoError) as caught, open_source(str(tmp_path / name)):
        pass
    assert caught.value.reason == reason


# ---------------------------------------------------------------- a mount that is away


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EMFILE])
def test_a_mount_that_is_away_when_a_file_is_opened_is_not_the_files_fault(file: Path, monkeypatch, number) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=r"a\.bin: can't be read now .*not the file's fault"), open_source(str(file)):
        pass


def test_a_mount_that_goes_away_is_not_the_files_fault_whoever_swallows_that(file: Path, monkeypatch) -> None:
    class Away(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Away(path))
    with pytest.raises(StorageError, match="stale file handle"), open_source(str(file)) as source:
        with suppress(StorageError):
            read(source, 0, 5)
        raise VideoError("decoder_error", "what native code makes of it")


def test_a_sector_that_can_not_be_read_is_the_files_fault(file: Path, monkeypatch) -> None:
    class Bad(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Bad(path))
    with open_source(str(file)) as source, pytest.raises(OSError, match="Input/output error"):
        read(source, 0, 5)


# ---------------------------------------------------------------- object stores


def test_requests_grow_while_one_follows_on_the_other(file: Path, s3_uri: str, monkeypatch) -> None:
    asked: list[int] = []
    with open_source(put(s3_uri, file)) as source:
        ask = source._file._ask
        monkeypatch.setattr(source._file, "_ask", lambda start, stop: asked.append(stop - start) or ask(start, stop))
        block = source_module.ON_STORE.num_bytes
        assert read(source, 2_500_000, 10) == DATA[2_500_000:][:10]
        assert read(source, 0, -1) == DATA
        assert asked == [block, block, 2 * block, 4 * block, 2 * block, block, 3_000_000 - 11 * block]
        assert source.num_bytes_read == len(DATA)


def test_a_window_of_an_object_reads_a_part_of_it_and_gives_the_same_clips(make_video, s3_uri: str) -> None:
    path = make_video("a.mov", num_frames=1800, **PICTURES)
    here = VideoRow("v", str(path), None, ("x",), (7,), 40.0, 44.0)
    there = VideoRow("v", put(s3_uri, path), None, ("x",), (7,), 40.0, 44.0)
    with Decoder(Limits()) as decoder:
        clips, outcome = drained(decoder.clips(here, SPEC))
        clips_there, outcome_there = drained(decoder.clips(there, SPEC))
    assert clips == clips_there != []
    assert outcome.num_frames_decoded == outcome_there.num_frames_decoded
    assert 0 < outcome.num_bytes_read < path.stat().st_size / 4
    assert 0 < outcome_there.num_bytes_read < path.stat().st_size / 2


def test_all_of_an_object_is_read_once(make_video, s3_uri: str) -> None:
    path = make_video("a.mp4", num_frames=300, size=(160, 120), mux={"movflags": "faststart"})
    with open_source(put(s3_uri, path)) as source:
        row = VideoRow("v", "v", None, ("x",), (7,), None, None)
        clips = list(sample_video(source.file, row, SPEC, convert=lambda frame: 0, progress=lambda count: None))
        assert len(clips) == 4
        assert source.num_bytes_read == path.stat().st_size


# ---------------------------------------------------------------- what the stages are told


def test_an_outcome_and_an_error_say_how_many_bytes_were_taken(make_video, tmp_path: Path) -> None:
    path = make_video("a.mp4", num_frames=100)
    (tmp_path / "noise.mp4").write_bytes(DATA[:5000])
    with Decoder(Limits()) as decoder:
        _, outcome = drained(decoder.clips(VideoRow("v", str(path), None, ("x",), (7,), None, None), SPEC))
        assert outcome.num_bytes_read == path.stat().st_size
        noise = VideoRow("v", str(tmp_path / "noise.mp4"), None, ("x",), (7,), None, None)
        with pytest.raises(VideoError) as caught:
            list(decoder.clips(noise, SPEC))
        assert caught.value.num_bytes_read == 5000
