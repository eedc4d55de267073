"""How many bytes of a video a row with a window takes, beside a scan of the whole file: from disk or an object store.

    python -m benchmarks.window_reads [VIDEO ...] [--at 0.6] [--seconds 10] [--s3 s3://bucket/folder?endpoint_override=]

For each video one row [at * length, at * length + seconds) of clips of 16 frames at 5 fps. "whole" is what is read
where the file is scanned whole (as for a row without a window), "part" where the container's index is used; both are
decoded, and their clips compared by hash. Without arguments: the long videos of ../shared/data/videos, and an hour and
two hours made of one of them by ffmpeg, without encoding. With --s3 they are uploaded there and measured there too
(credentials from the usual places), with the number of requests (part/whole).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import av
import imageio_ffmpeg

from benchmarks.machine import machine_line
from pipeline.store import Store
from pipeline.video import decode
from pipeline.video.decode import sample_video
from pipeline.video.source import open_source
from schemas.config import Clips
from schemas.video_row import VideoRow

SHARED = Path(__file__).resolve().parents[2] / "shared/data/videos"
LONG = ["long/hd_1080p_122s.mp4", "long/women_long_jump.mp4"]
HOURS = {"hour.mp4": 29, "hour.mkv": 29, "two_hours.mp4": 58}  # repetitions of the first of them
SPEC = Clips(frames=16, fps=5)


class Reading(NamedTuple):
    num_bytes: int
    num_requests: int
    wall_s: float
    digest: str  # of all clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--at", type=float, default=0.6)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--s3", help="a folder's URI, to measure there too")
    arguments = parser.parse_args()
    print(machine_line("av"))
    head = f"{'file':<26} {'where':<5} {'window s':<16} {'file MB':>8} {'whole MB':>9} {'part MB':>8} {'share':>7}"
    print(f"{head} {'requests':>10} {'whole s':>8} {'part s':>7}  same")
    with tempfile.TemporaryDirectory(prefix="window_reads_") as temporary:
        for path in arguments.videos or standard(Path(temporary)):
            row = window_of(path, at=arguments.at, length_s=arguments.seconds)
            report(path, row, "disk")
            if arguments.s3:
                report(path, VideoRow(**{**fields(row), "uri": uploaded(path, arguments.s3)}), "s3")


def standard(folder: Path) -> Iterator[Path]:
    yield from (SHARED / name for name in LONG)
    for name, times in HOURS.items():
        target = folder / name
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", str(times)]
        subprocess.run([*command, "-i", str(SHARED / LONG[0]), "-c", "copy", str(target)], check=True)
        yield target


def window_of(path: Path, *, at: float, length_s: float) -> VideoRow:
    with av.open(str(path), metadata_errors="ignore") as container:
        start_s = round((container.duration or 0) / 1e6 * at, 1)
    return VideoRow(path.stem, str(path), None, (), (), start_s, start_s + length_s)


def fields(row: VideoRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}


def uploaded(path: Path, folder: str) -> str:
    base, _, query = folder.partition("?")
    Store(folder).put(path.name, path.read_bytes())
    return f"{base}/{path.name}" + (f"?{query}" if query else "")


def report(path: Path, row: VideoRow, where: str) -> None:
    part = read(row)
    with whole_files():
        whole = read(row)
    size = path.stat().st_size
    window = f"{row.start_s:.1f}–{row.end_s:.1f}"
    print(
        f"{path.name:<26} {where:<5} {window:<16} {size / 1e6:>8.2f} {whole.num_bytes / 1e6:>9.2f} "
        f"{part.num_bytes / 1e6:>8.2f} {part.num_bytes / size:>7.1%} {part.num_requests:>4}/{whole.num_requests:<5} "
        f"{whole.wall_s:>8.2f} {part.wall_s:>7.2f}  {'yes' if part.digest == whole.digest else 'NO'}",
        flush=True,
    )


@contextmanager
def whole_files() -> Iterator[None]:
    """Rows with windows are read as those without."""
    is_part = decode.is_part
    decode.is_part = lambda row, spec: False
    try:
        yield
    finally:
        decode.is_part = is_part


def read(row: VideoRow) -> Reading:
    asked = 0

    def on_storage(is_asked: bool) -> None:
        nonlocal asked
        asked += is_asked

    digest = hashlib.sha256()
    began_s = time.perf_counter()
    with open_source(row.uri, on_storage=on_storage) as source:
        clips = sample_video(
            source.file, row, SPEC, convert=lambda frame: frame.to_ndarray().tobytes(), progress=lambda count: None
        )
        for clip in clips:
            digest.update(repr((clip.clip_id, clip.frame_pts_s)).encode())
            for frame in clip.frames:
                digest.update(frame)
        return Reading(source.num_bytes_read, asked, time.perf_counter() - began_s, digest.hexdigest())


if __name__ == "__main__":
    main()
