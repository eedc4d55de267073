"""Colours, resize, upright and crop against numbers worked out here, not against the code's own path."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from pipeline.video.errors import VideoError
from pipeline.video.transform import Transform, describe, short_side_size
from schemas.config import Clips

ODD = Path(__file__).resolve().parents[3] / "../shared/data/videos/odd"
BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
AVCOL_SPC = {"bt709": 1, "unspecified": 2, "bt470bg": 5, "smpte170m": 6, "bt2020nc": 9}


def spec(**settings: object) -> Clips:
    return Clips.model_validate({"frames": 1, "fps": 1, **settings})


def flat_yuv(yuv: tuple[int, int, int], *, colorspace: int = 2, color_range: int = 0, format: str = "yuv420p"):
    frame = av.VideoFrame(64, 48, format)
    for plane, value in zip(frame.planes, yuv, strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    frame.colorspace = colorspace
    frame.color_range = color_range
    return frame


def rgb_of(yuv: tuple[int, int, int], weights: tuple[float, float], *, full: bool) -> np.ndarray:
    """BT.601 / 709 / 2020 as the recommendations write them."""
    k_r, k_b = weights
    y, u, v = yuv
    if full:
        y_, u_, v_ = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        y_, u_, v_ = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y_ + 2 * (1 - k_r) * v_, y_ + 2 * (1 - k_b) * u_
    green = (y_ - k_r * red - k_b * blue) / (1 - k_r - k_b)
    return np.clip(np.array([red, green, blue]) * 255, 0, 255)


@pytest.mark.parametrize(
    ("tag", "color_range", "weights", "full"),
    [
        ("bt709", ColorRange.MPEG, BT709, False),
        ("bt709", ColorRange.JPEG, BT709, True),
        ("smpte170m", ColorRange.MPEG, BT601, False),
        ("bt470bg", ColorRange.JPEG, BT601, True),
        ("bt2020nc", ColorRange.MPEG, BT2020, False),
        ("unspecified", ColorRange.UNSPECIFIED, BT601, False),
    ],
)
@pytest.mark.parametrize("format", ["yuv420p", "yuv444p", "yuv422p"])
def test_a_frame_s_own_matrix_and_range_are_undone(tag, color_range, weights, full, format):
    yuv = (110, 160, 90)  # the six cases differ by 8 to 30 levels here
    frame = flat_yuv(yuv, colorspace=AVCOL_SPC[tag], color_range=color_range, format=format)
    pixels = Transform(spec())(frame)
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[10, 10] - rgb_of(yuv, weights, full=full)).max() <= 2.5  # swscale's table rounds down


def test_yuvj_is_full_range_without_a_tag():
    pixels = Transform(spec())(flat_yuv((110, 160, 90), format="yuvj420p"))
    assert np.abs(pixels[10, 10] - rgb_of((110, 160, 90), BT601, full=True)).max() <= 2.5


def test_a_matrix_that_swscale_can_t_undo_is_refused():
    with pytest.raises(VideoError, match="matrix 8") as caught:  # YCgCo
        Transform(spec())(flat_yuv((110, 160, 90), colorspace=8))
    assert caught.value.reason == "unsupported_pixels"


@pytest.mark.parametrize("format", ["yuv420p10le", "yuv444p12le", "yuv422p10le", "p010le", "gbrp10le", "rgb48le"])
def test_deep_formats_give_what_their_8_bit_picture_gives(format):
    picture = np.random.default_rng(0).integers(40, 200, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=format)
    pixels = Transform(spec())(frame)
    inner = np.s_[4::8, 4::8]  # the middle of each square, away from the edges where chroma is shared
    assert np.abs(pixels[inner].astype(int) - picture[inner]).max() <= 4


def test_gray_palette_and_rgb_are_taken_as_they_are():
    gray = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    for tag in (ColorRange.UNSPECIFIED, ColorRange.MPEG):
        frame = av.VideoFrame.from_ndarray(gray, format="gray")
        frame.color_range = tag
        assert np.array_equal(Transform(spec())(frame), np.repeat(gray[..., None], 3, 2))
    rgb = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    for format in ("rgb24", "gbrp"):
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format)
        assert np.array_equal(Transform(spec())(frame), rgb)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0], palette[:, 1] = 255, np.arange(256)  # ARGB
    frame = av.VideoFrame.from_ndarray((gray, palette), format="pal8")
    assert np.array_equal(Transform(spec())(frame)[..., 0], gray)


def test_the_result_shares_no_memory_with_the_frame():
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 7, np.uint8), format="rgb24")
    pixels = Transform(spec())(frame)
    np.frombuffer(frame.planes[0], np.uint8)[:] = 9
    assert (pixels == 7).all()
    assert pixels.flags.c_contiguous


# ---------------------------------------------------------------- sizes


def bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Two taps at pixel centres, edges repeated, no antialias: written out."""

    def taps(new: int, old: int):
        at = (np.arange(new) + 0.5) * old / new - 0.5
        low = np.floor(at).astype(int)
        return low.clip(0, old - 1), (low + 1).clip(0, old - 1), at - low

    y0, y1, fy = taps(height, picture.shape[0])
    x0, x1, fx = taps(width, picture.shape[1])
    p = picture.astype(float)
    fx, fy = fx[None, :, None], fy[:, None, None]
    top = p[y0][:, x0] * (1 - fx) + p[y0][:, x1] * fx
    bottom = p[y1][:, x0] * (1 - fx) + p[y1][:, x1] * fx
    return top * (1 - fy) + bottom * fy


def test_bilinear_has_no_antialias():
    picture = np.random.default_rng(2).integers(0, 256, (240, 320, 3), np.uint8)
    pixels = Transform(spec(resize=[112, 112]))(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    assert pixels.shape == (112, 112, 3)
    assert np.abs(pixels - bilinear(picture, 112, 112)).max() <= 1.01


def test_area_is_the_mean_of_the_boxes():
    picture = np.random.default_rng(3).integers(0, 256, (240, 320, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    pixels = Transform(spec(resize=[60, 80], filter="area"))(frame)
    boxes = picture.reshape(60, 4, 80, 4, 3).mean((1, 3))
    assert np.abs(pixels - boxes).max() <= 0.51


def test_area_is_bilinear_where_a_side_grows():
    picture = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    pixels = Transform(spec(resize=[96, 32], filter="area"))(frame)
    assert np.abs(pixels - bilinear(picture, 96, 32)).max() <= 1.01


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((256, 340), 256, (256, 340)),
        ((240, 320), 256, (256, 342)),
        ((320, 240), 256, (342, 256)),
        ((240, 560), 128, (128, 298)),  # 298.67
        ((100, 100), 64, (64, 64)),
        ((200, 201), 100, (100, 100)),  # 100.5
        ((100, 101), 100, (100, 102)),  # 101 is a tie
    ],
)
def test_short_side(size, short_side, expected):
    assert short_side_size(*size, short_side) == expected
    frame = av.VideoFrame.from_ndarray(np.zeros((*size, 3), np.uint8), format="rgb24")
    transform = Transform(spec(short_side=short_side))
    assert transform(frame).shape[:2] == expected == transform.size_px


def test_crop_is_centred_and_rounds_down():
    picture = np.zeros((49, 64, 3), np.uint8)
    picture[..., 0] = np.arange(49)[:, None]
    picture[..., 1] = np.arange(64)
    pixels = Transform(spec(crop=[20, 31]))(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    assert pixels.shape == (20, 31, 3)
    assert pixels[0, 0].tolist() == [14, 16, 0]  # (49 - 20) // 2, (64 - 31) // 2


def test_c3d_s_crop_starts_at_8_and_29():
    picture = np.zeros((128, 171, 3), np.uint8)
    picture[..., 0] = np.arange(128)[:, None]
    picture[..., 1] = np.arange(171)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    pixels = Transform(spec(resize=[128, 171], crop=[112, 112]))(frame)
    assert pixels[0, 0].tolist() == [8, 29, 0]


def test_a_crop_that_does_not_fit_is_one_sentence():
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    with pytest.raises(VideoError, match=r"crop \[50, 50\].*\[48, 64\]") as caught:
        Transform(spec(crop=[50, 50]))(frame)
    assert caught.value.reason == "crop_does_not_fit"


def test_later_frames_are_brought_to_the_first_one_s_size():
    transform = Transform(spec(short_side=32))
    for height, width in ((48, 64), (64, 48), (49, 33)):
        frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        assert transform(frame).shape == (32, 42, 3)


@pytest.mark.parametrize(("size", "settings"), [((8, 20000), {}), ((9000, 9000), {}), ((2, 400), {"short_side": 256})])
def test_absurd_sizes_are_refused_before_their_memory_is_taken(size, settings):
    frame = av.VideoFrame(size[1], size[0], "gray")
    with pytest.raises(VideoError) as caught:
        Transform(spec(**settings))(frame)
    assert caught.value.reason == "absurd_size"


# ---------------------------------------------------------------- upright


def turned(tmp_path: Path, matrix: list[int]) -> av.VideoFrame:
    """The first frame of a QuickTime file whose track header carries `matrix` (a b c d of the 2 x 2 part)."""
    path = tmp_path / "turned.mov"
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = 60, 120, 180  # quarters: 60 120 / 180 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value.to_bytes(4, signed=True) for value in matrix)
    data[at : at + 36] = a + b + bytes(4) + c + d + bytes(12) + (1 << 30).to_bytes(4)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


ONE = 65536


@pytest.mark.parametrize(
    ("matrix", "quarters"),
    [
        ([ONE, 0, 0, ONE], [[60, 120], [180, 0]]),
        ([0, ONE, -ONE, 0], [[180, 60], [0, 120]]),  # shown turned 90 degrees clockwise
        ([-ONE, 0, 0, -ONE], [[0, 180], [120, 60]]),
        ([0, -ONE, ONE, 0], [[120, 0], [60, 180]]),  # 90 degrees counter-clockwise
        ([-ONE, 0, 0, ONE], [[120, 60], [0, 180]]),  # a mirror image, which frame.rotation calls 180
        ([ONE, 0, 0, -ONE], [[180, 0], [60, 120]]),
        ([0, ONE, ONE, 0], [[60, 180], [120, 0]]),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"short_side": 24}, {"resize": [40, 60], "filter": "area"}])
def test_display_matrices(tmp_path, matrix, quarters, settings):
    pixels = Transform(spec(**settings))(turned(tmp_path, matrix))
    height, width = pixels.shape[:2]
    seen = [[int(pixels[height * (1 + 2 * y) // 4, width * (1 + 2 * x) // 4, 0]) for x in (0, 1)] for y in (0, 1)]
    assert seen == quarters
    if "resize" in settings:
        assert (height, width) == (40, 60)
    else:
        assert (height > width) == (matrix[0] == 0)


@pytest.mark.parametrize(("name", "clockwise"), [("rotated_90.mov", True), ("rotated_270.mov", False)])
def test_real_phone_videos_stand_upright(name, clockwise):
    """Which way is up was looked up in the pictures: the letters on the keys read from left to right."""
    if not (ODD / name).exists():
        pytest.skip("the shared test videos are not here")
    with av.open(str(ODD / name)) as container:
        frame = next(container.decode(video=0))
    stored = frame.to_ndarray(format="rgb24")
    pixels = Transform(spec())(frame)
    assert pixels.shape == (568, 320, 3)
    turn = cv2.ROTATE_90_CLOCKWISE if clockwise else cv2.ROTATE_90_COUNTERCLOCKWISE
    assert np.array_equal(pixels, cv2.rotate(stored, turn))


@pytest.mark.parametrize("filter", ["bilinear", "area"])
def test_resizing_before_turning_costs_at_most_one_level(filter):
    if not (ODD / "rotated_90.mov").exists():
        pytest.skip("the shared test videos are not here")
    with av.open(str(ODD / "rotated_90.mov")) as container:
        frame = next(container.decode(video=0))
    pixels = Transform(spec(short_side=128, filter=filter))(frame)
    upright_first = cv2.rotate(frame.to_ndarray(format="rgb24"), cv2.ROTATE_90_CLOCKWISE)
    interpolation = cv2.INTER_LINEAR if filter == "bilinear" else cv2.INTER_AREA
    other_order = cv2.resize(upright_first, (128, 228), interpolation=interpolation)
    assert pixels.shape == other_order.shape
    assert np.abs(pixels.astype(int) - other_order).max() <= 1


def test_the_card_says_what_is_done():
    card = describe(spec(short_side=256, crop=[224, 224], filter="area"))
    assert "INTER_AREA" in card["filter"]
    assert "256" in card["resize"]
    assert "224 x 224" in card["crop"]
    assert describe(spec())["resize"].startswith("none")


def test_gray_comes_before_the_resize():
    picture = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    whole = Transform(spec(), gray=True)(frame)
    assert (whole.dtype, whole.flags.c_contiguous) == (np.uint8, True)
    assert np.array_equal(whole, gray)
    wanted = picture @ np.array([0.299, 0.587, 0.114])
    assert np.abs(whole - wanted).max() <= 0.51
    small = Transform(spec(resize=[20, 31], crop=[16, 16]), gray=True)(frame)
    assert np.array_equal(small, cv2.resize(gray, (31, 20), interpolation=cv2.INTER_LINEAR)[2:18, 7:23])


@pytest.mark.parametrize("matrix", [[0, ONE, -ONE, 0], [-ONE, 0, 0, ONE], [0, -ONE, ONE, 0]])
def test_gray_is_turned_like_colours(tmp_path, matrix):
    frame = turned(tmp_path, matrix)
    rgb = Transform(spec())(frame)
    assert np.array_equal(Transform(spec(), gray=True)(frame), cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
