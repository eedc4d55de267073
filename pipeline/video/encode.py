"""A clip's frames as WebDataset members, and back.

jpeg  000.jpg 001.jpg …   one picture a frame
mp4   mp4                 one H.264 video a clip
npy   npy                 one (T,H,W,3) uint8 array a clip

`gray_members` and `gray_frames` are for flow: pixels between the decoder and its worker, never stored.

Frames are RGB on both faces of this module; cv2 is BGR inside, so the jpeg paths swap on the way in and out.
Equal frames give equal bytes: one thread, no clock, no tool names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from pipeline.npy import from_npy, to_npy
from pipeline.stills import MAX_PIXELS, decode_still
from schemas.errors import ReelmillError

if TYPE_CHECKING:
    from schemas.config import Clips

Encoding = Literal["jpeg", "mp4", "npy"]
X264_PRESET = "medium"
# Without it x264's fast macroblock-tree kernels round by where their buffers lie in memory: the same frames gave up
# to nine different streams in one process. With it the stream also is the same on every CPU.
X264_PARAMS = "cpu-independent=1"
SMPTE170M = 6  # AVCOL_SPC_SMPTE170M: the BT.601 matrix


def encode_frame(rgb: np.ndarray, spec: Clips) -> bytes | np.ndarray:
    """What a clip keeps of one frame: its JPEG bytes, or the (H,W,3) uint8 RGB pixels until `encode_clip`.

    Called once per source frame, so that overlapping clips share the work.
    """
    if spec.encoding != "jpeg":
        return rgb
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg", bgr, _jpeg_settings(spec))
    assert ok, "libjpeg refused a uint8 picture"
    return data.tobytes()


def encode_clip(frames: Sequence[bytes | np.ndarray], spec: Clips) -> dict[str, bytes]:
    """The members of one clip, in the order they take in the shard; `frames` come from `encode_frame`.

    Raises VideoError "odd_size" where mp4 can't hold the size.
    """
    if spec.encoding == "jpeg":
        return {f"{index:03d}.jpg": bytes(data) for index, data in enumerate(frames)}
    pixels = np.stack([np.asarray(frame) for frame in frames])
    if spec.encoding == "npy":
        return {"npy": to_npy(pixels)}
    return {"mp4": _encode_mp4(pixels, spec)}


def gray_members(frames: Sequence[bytes | np.ndarray]) -> dict[str, bytes]:
    """(H,W) uint8 frames as raw members, "0", "1" …, by the place where each comes first: a frame that stands there
    several times in a row (the same object) is one member."""
    firsts = [k for k, frame in enumerate(frames) if k == 0 or frame is not frames[k - 1]]
    return {str(k): np.asarray(frames[k]).tobytes() for k in firsts}


def gray_frames(members: Mapping[str, bytes], *, height: int, width: int) -> dict[int, np.ndarray]:
    """The (H,W) uint8 frames of `gray_members`, by the place where each comes first."""
    return {int(place): np.frombuffer(data, np.uint8).reshape(height, width) for place, data in members.items()}


def decode_frames(members: Mapping[str, bytes], encoding: Encoding, *, at_most: int | None = None) -> np.ndarray:
    """The (T,H,W,3) uint8 RGB frames of one sample; other members (json, cls) are ignored.

    Raises ReelmillError where the members are missing or damaged, or are more than `at_most` frames: a few bytes of
    video may say thousands.
    """
    try:
        if encoding == "npy":
            return from_npy(members["npy"])
        if encoding == "mp4":
            return _decode_mp4(members["mp4"], at_most)
        return _decode_jpegs(members, at_most)
    except (KeyError, ValueError) as error:
        raise ReelmillError(
            f"a sample holds no readable {encoding} frames ({error}): the shard was damaged after it was written"
        ) from None


def describe(spec: Clips) -> dict[str, str | int]:
    """How frames are stored, for the card."""
    if spec.encoding == "npy":
        return {"members": "npy", "format": "numpy 1.0, (T,H,W,3) uint8 RGB, C order"}
    if spec.encoding == "mp4":
        return {
            "members": "mp4",
            "format": "H.264 yuv420p, BT.601 matrix, limited range",
            "encoder": f"libx264 preset {X264_PRESET}, crf {spec.crf}, {X264_PARAMS}, one thread",
            "fps": str(_rate(spec)),
        }
    return {
        "members": "000.jpg 001.jpg …",
        "format": "baseline JPEG, 4:2:0 chroma",
        "encoder": "cv2.imencode (libjpeg-turbo)",
        "quality": spec.quality,
    }


# ---------------------------------------------------------------- jpeg


def _jpeg_settings(spec: Clips) -> list[int]:
    return [
        *(cv2.IMWRITE_JPEG_QUALITY, spec.quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, 0),
        *(cv2.IMWRITE_JPEG_OPTIMIZE, 0),
    ]


def _decode_jpegs(members: Mapping[str, bytes], at_most: int | None) -> np.ndarray:
    names = [name for name in members if name.endswith(".jpg") and name[:-4].isdigit()]
    if not names:
        raise ValueError("no NNN.jpg among its members")
    _check_number(len(names), at_most)
    frames = []
    for name in sorted(names, key=lambda name: int(name[:-4])):  # 1000.jpg comes after 999.jpg
        try:
            frames.append(decode_still(members[name], "rgb"))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return np.stack(frames)


def _check_number(number: int, at_most: int | None) -> None:
    if at_most is not None and number > at_most:
        raise ValueError(f"more than {at_most} frames")


# ---------------------------------------------------------------- mp4; av is imported here, on first use


def _rate(spec: Clips) -> Fraction:
    return Fraction(str(spec.fps)).limit_denominator(1_000_000)  # 29.97 is 2997/100, not a binary neighbour


def _encode_mp4(pixels: np.ndarray, spec: Clips) -> bytes:
    import av
    from av.codec.context import Flags
    from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

    from pipeline.video.errors import VideoError

    height, width = pixels.shape[1:3]
    if height % 2 or width % 2:
        raise VideoError(
            "odd_size",
            f"its clips are {height} x {width} (height x width) and an mp4 holds even sizes only: "
            "set resize, short_side or crop to even sizes, or another encoding",
        )
    rate = _rate(spec)
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"crf": str(spec.crf), "preset": X264_PRESET, "x264-params": X264_PARAMS}
        stream = container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = 1 / rate
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.colorspace = SMPTE170M
        context.color_range = ColorRange.MPEG
        reformatter = VideoReformatter()
        for index, rgb in enumerate(pixels):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(rgb, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _decode_mp4(data: bytes, at_most: int | None) -> np.ndarray:
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

    reformatter = VideoReformatter()
    frames = []
    # as videos are opened: it can't name another file or an address to be read in its place
    with av.open(BytesIO(data), "r", format="mp4", options={"protocol_whitelist": "none"}) as container:
        if not container.streams.video:
            raise ValueError("the mp4 has no video stream")
        stream = container.streams.video[0]
        if stream.height * stream.width > MAX_PIXELS:
            raise ValueError(f"frames of {stream.height} x {stream.width} (height x width) are none of a video")
        stream.thread_count = 1
        for frame in container.decode(video=0):
            converted = reformatter.reformat(
                frame,
                format="rgb24",
                src_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
            frames.append(converted.to_ndarray())
            _check_number(len(frames), at_most)
    return np.stack(frames)
