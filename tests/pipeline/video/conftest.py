"""Videos made on the spot: every frame is its own picture, so that a wrong frame shows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

SHARED_VIDEOS = Path(__file__).resolve().parents[3] / ".." / "shared/data/videos"
MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    if not SHARED_VIDEOS.is_dir():
        pytest.skip("the real videos of ../shared/data/videos are not here")
    return SHARED_VIDEOS


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make_video("a.mp4", num_frames=50, …) -> path. `times` are the frames' pts in units of 1/rate, or counted."""

    def make(
        name: str,
        *,
        num_frames: int = 50,
        rate: int = 25,
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        mux: dict[str, str] | None = None,
        times: Sequence[int] | None = None,
        b_frames: int | None = None,
        gop: int = 12,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=mux or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pixel_format
            context = stream.codec_context
            context.gop_size, context.thread_count = gop, 1
            context.time_base = Fraction(1, rate)
            if b_frames is not None:
                context.max_b_frames = b_frames
            for i, pts in enumerate(times if times is not None else range(num_frames)):
                frame = av.VideoFrame.from_ndarray(picture(i, size), format="rgb24").reformat(format=pixel_format)
                frame.pts, frame.time_base = pts, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


def picture(i: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: a pattern that moves, and flickers with i."""
    y, x = np.mgrid[: size[1], : size[0]]
    planes = [(x * 4 + i * 7) % 256, (y * 5 + i * 11) % 256, (x * y + i * 29) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """ffmpeg("-i", path, …) runs the program of imageio-ffmpeg."""
    program = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed").get_ffmpeg_exe()

    def run(*arguments: str | Path) -> None:
        subprocess.run([program, "-v", "error", "-y", "-nostdin", *map(str, arguments)], check=True)

    return run


@pytest.fixture
def with_times() -> Callable[[Path, Callable[[int], int], str], Path]:
    """with_times(path, change, name) -> a copy whose packet number n has its pts moved by change(n) seconds."""

    def copy(path: Path, change: Callable[[int], int], name: str) -> Path:
        target = path.with_name("changed_" + name)
        with av.open(str(path)) as source, av.open(str(target), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(source.demux(video=0)):
                if packet.dts is not None:
                    packet.pts += int(change(number) / packet.time_base)
                    packet.stream = stream
                    out.mux(packet)
        return target

    return copy
