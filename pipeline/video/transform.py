"""A decoded frame to RGB pixels, in one stated order: colours, resize, upright, crop.

    transform = Transform(spec)                      # one per video: its first frame fixes the size
    rgb = transform(frame)                           # av.VideoFrame -> (H,W,3) uint8
    gray = Transform(spec, gray=True)(frame)         # (H,W) uint8: gray straight after the colours, the rest as ever

The resize comes before the frame is turned upright, with the target swapped for frames that lie on their side:
turning the small picture is cheaper than turning the large one, and the two orders differ by at most one level
(cv2 rounds its two passes differently).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from pipeline.video.errors import VideoError

if TYPE_CHECKING:
    from schemas.config import Clips

cv2.setNumThreads(1)  # a worker per core: threads inside a worker only fight each other

MAX_SIDE_PX = 16384
MAX_AREA_PX = 8192 * 8192  # twice an 8K frame; 200 MB of RGB

# AVCOL_SPC_* of a YUV frame -> the matrix swscale is told to use
_UNTAGGED = frozenset({0, 2, 3})  # RGB (a lie on YUV), unspecified, reserved
_MATRICES: dict[int, Colorspace] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,  # BT.470 BG
    6: Colorspace.ITU601,  # SMPTE 170M
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,  # constant luminance, which swscale treats like 9
    **dict.fromkeys(_UNTAGGED, Colorspace.ITU601),
}


class _Upright(NamedTuple):
    """How stored pixels are turned: transpose first, then the flips."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False


_AS_STORED = _Upright()


class Transform:
    """Frames of one video to RGB of one size.

    The first frame fixes the size (without `resize` and `short_side`: its own); later frames of other sizes are
    resized to it. Raises VideoError "absurd_size", "crop_does_not_fit" or "unsupported_pixels".
    """

    def __init__(self, spec: Clips, *, gray: bool = False) -> None:
        self._spec = spec
        self._gray = gray
        self._reformatter = VideoReformatter()  # keeps swscale's tables from frame to frame
        self._upright: _Upright | None = None
        self._rotation_deg = 0
        self._size: tuple[int, int] | None = None  # (height, width) upright, after the resize, before the crop

    @property
    def size_px(self) -> tuple[int, int]:
        """(height, width) of what a call returns; known after the first frame."""
        assert self._size is not None, "no frame yet"
        return self._spec.crop or self._size

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as (H,W,3) uint8 RGB or (H,W) uint8 gray, C-contiguous, sharing no memory with the frame."""
        upright = self._orientation(frame)
        if self._size is None:
            self._size = self._plan(_swap((frame.height, frame.width), upright))
        _refuse_absurd(frame.height, frame.width, "a frame")
        rgb = self._rgb(frame)
        if self._gray:
            rgb = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        rgb = self._resize(rgb, _swap(self._size, upright))
        rgb = _turn(rgb, upright)
        rgb = self._crop(rgb)
        if rgb.flags.c_contiguous and rgb.base is None:
            return rgb
        return np.array(rgb, order="C")  # flips and crops are views, and an unresized frame is the frame's memory

    def _orientation(self, frame: av.VideoFrame) -> _Upright:
        """How to stand the frame upright; the display matrix is looked at again only when the rotation changes.

        PyAV keeps a frame and its side data alive through each other until the garbage collector runs: reading
        the matrix of every frame let 1080p video grow to 700 MB.
        """
        if self._upright is None or frame.rotation != self._rotation_deg:
            self._upright, self._rotation_deg = _upright(frame), frame.rotation
        return self._upright

    def _plan(self, upright_size: tuple[int, int]) -> tuple[int, int]:
        height, width = upright_size
        _refuse_absurd(height, width, "its frames")
        spec = self._spec
        if spec.resize:
            size = spec.resize
        elif spec.short_side:
            size = short_side_size(height, width, spec.short_side)
        else:
            size = (height, width)
        _refuse_absurd(*size, "its frames after short_side")
        if spec.crop and (spec.crop[0] > size[0] or spec.crop[1] > size[1]):
            raise VideoError(
                "crop_does_not_fit",
                f"crop {list(spec.crop)} (height, width) does not fit inside its frames of {list(size)}: "
                "set resize or short_side, or a smaller crop",
            )
        return size

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """(H,W,3) uint8 view of a frame that swscale converted."""
        matrix = None if frame.format.is_rgb else _matrix(frame.colorspace)
        try:
            converted = self._reformatter.reformat(
                frame,
                format="rgb24",
                src_colorspace=matrix,
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.BILINEAR,
                threads=1,
            )
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                "unsupported_pixels", f"its frames of pixel format {frame.format.name} can't become RGB ({error})"
            ) from None
        plane = converted.planes[0]
        shape = (converted.height, converted.width, 3)
        return np.ndarray(shape, np.uint8, memoryview(plane), strides=(plane.line_size, 3, 1))

    def _resize(self, rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        height, width = size
        if rgb.shape[:2] == size:
            return rgb
        shrinks = height <= rgb.shape[0] and width <= rgb.shape[1]
        area = self._spec.filter == "area" and shrinks
        return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)

    def _crop(self, rgb: np.ndarray) -> np.ndarray:
        if self._spec.crop is None:
            return rgb
        height, width = self._spec.crop
        top = (rgb.shape[0] - height) // 2
        left = (rgb.shape[1] - width) // 2
        return rgb[top : top + height, left : left + width]


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The (height, width) whose short side is `short_side`; the other side keeps the aspect, to the nearest even.

    >>> short_side_size(240, 320, 256)      # 341.33 -> 342
    (256, 342)
    """
    short, long = sorted((height, width))
    other = max(2, (long * short_side + short) // (2 * short) * 2)  # a tie goes up
    return (short_side, other) if height <= width else (other, short_side)


def describe(spec: Clips) -> dict[str, str]:
    """What is done to a frame, in order, for the card."""
    resize = {
        "bilinear": "cv2.resize INTER_LINEAR (2x2 taps at pixel centres, no antialias)",
        "area": "cv2.resize INTER_AREA (box average) when neither side grows, else INTER_LINEAR",
    }[spec.filter]
    if spec.resize:
        size = f"to {spec.resize[0]} x {spec.resize[1]} (height x width, upright), aspect ignored"
    elif spec.short_side:
        size = f"short side to {spec.short_side}, the other to the nearest even number that keeps the aspect, ties up"
    else:
        size = "none; frames that differ in size from the video's first used frame are resized to it"
    crop = "none"
    if spec.crop:
        crop = f"centre {spec.crop[0]} x {spec.crop[1]} (height x width), top = (H - h) // 2, left = (W - w) // 2"
    return {
        "order": "colours, resize (in the stored orientation), upright, crop",
        "pixels": "RGB, uint8, 0-255",
        "colours": "libswscale to rgb24 at the source's size, flags=bilinear (as av.VideoFrame.to_ndarray), the "
        "frame's own matrix and range",
        "colours_untagged": "matrix BT.601, limited range; yuvj formats full range; gray and palettes as they are",
        "colours_not_done": "no conversion of primaries or transfer (HDR is not tone-mapped); alpha is dropped",
        "resize": size,
        "filter": resize if spec.resize or spec.short_side else f"only where sizes differ: {resize}",
        "upright": "display matrix, to the nearest multiple of 90 degrees and mirroring; pixel aspect is ignored",
        "crop": crop,
    }


def _matrix(colorspace: int) -> Colorspace:
    matrix = _MATRICES.get(colorspace)
    if matrix is None:
        raise VideoError(
            "unsupported_pixels",
            f"its colours are coded with matrix {colorspace} of ITU-T H.273, which libswscale can't undo; "
            "re-encode it, for instance to BT.709",
        )
    return matrix


def _upright(frame: av.VideoFrame) -> _Upright:
    """How to turn a frame, from its display matrix.

    FFmpeg stores (a b u, c d v, x y w) row by row as int32; a stored pixel (p, q) is shown at
    (a p + c q + x, b p + d q + y), y downwards. frame.rotation isn't enough: it says 180 for a mirror image.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _AS_STORED
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return _Upright(transpose=True, flip_x=c < 0, flip_y=b < 0)
    return _Upright(transpose=False, flip_x=a < 0, flip_y=d < 0)


def _swap(size: tuple[int, int], upright: _Upright) -> tuple[int, int]:
    return (size[1], size[0]) if upright.transpose else size


def _turn(rgb: np.ndarray, upright: _Upright) -> np.ndarray:
    if upright.transpose:
        rgb = rgb.swapaxes(0, 1)
    if upright.flip_x:
        rgb = rgb[:, ::-1]
    if upright.flip_y:
        rgb = rgb[::-1]
    return rgb


def _refuse_absurd(height: int, width: int, what: str) -> None:
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_AREA_PX or min(height, width) < 1:
        raise VideoError(
            "absurd_size",
            f"{what} would be {height} x {width} (height x width), beyond {MAX_SIDE_PX} a side or "
            f"{MAX_AREA_PX // 1_000_000} million pixels",
        )
