"""H.264 in MP4 with deterministic bytes: one thread, no encoder clock, no library dates."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def write_mp4(path: Path, frames: Iterable[np.ndarray], *, rate: Fraction, crf: int, gop: int) -> None:
    """Encode uint8 RGB frames (H, W, 3) of even sides; frame i is on display from i / rate seconds.

    gop: the most frames from one key frame to the next.
    """
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        stream: av.VideoStream | None = None
        for index, picture in enumerate(frames):
            if stream is None:
                stream = _add_stream(container, picture, rate=rate, crf=crf, gop=gop)
            frame = _yuv_frame(picture)
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))


def _add_stream(
    container: av.container.OutputContainer, picture: np.ndarray, *, rate: Fraction, crf: int, gop: int
) -> av.VideoStream:
    options = {
        "crf": str(crf),
        "g": str(gop),
        "preset": "veryfast",
        "threads": "1",
        "flags": "+bitexact",
        # without it the SIMD code of x264's macroblock tree reads memory that nothing wrote, and bytes differ
        # from run to run; with it they are also the same on every CPU
        "x264-params": "cpu-independent=1",
    }
    stream: av.VideoStream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = 1 / rate
    stream.codec_context.color_range = 1  # limited
    stream.codec_context.colorspace = 6  # BT.601, as the conversion below
    return stream


def _yuv_frame(picture: np.ndarray) -> av.VideoFrame:
    # OpenCV's conversion is integer and the same with every SIMD width; swscale's is not
    planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.color_range, frame.colorspace = 1, 5
    return frame
