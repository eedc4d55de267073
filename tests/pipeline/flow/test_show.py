import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.flow.flo import known, read_flo
from pipeline.flow.show import (
    CELL_HEIGHT_PX,
    GAP_PX,
    LEGEND_WIDTH_PX,
    PAPER,
    flow_colours,
    flow_strip,
    png_bytes,
    save_png,
    wheel_legend,
)
from schemas.errors import ReelmillError, UsageError

MIDDLEBURY = Path(__file__).resolve().parents[3] / ".." / "shared/data/flow/middlebury"

# colours of true flow at (row, column), by flow_vis 0.1 (flow_vis.flow_to_color), another implementation
REAL_COLOURS = {
    "Dimetrodon": {(30, 40): (113, 194, 255), (30, 400): (80, 243, 255), (200, 400): (175, 255, 246)},
    "Grove2": {(30, 40): (78, 129, 255), (30, 210): (90, 255, 153), (200, 400): (120, 238, 255)},
    "RubberWhale": {(30, 40): (255, 207, 222), (30, 400): (186, 241, 255), (350, 40): (255, 197, 195)},
    "Venus": {(30, 40): (255, 91, 91), (200, 40): (214, 247, 255), (350, 40): (54, 218, 255)},
}


def vectors(*pairs: tuple[float, float]) -> np.ndarray:
    """One row of vectors, as a (1,N,2) field."""
    return np.array([pairs], np.float32)


def test_directions() -> None:
    right, down, left, up = flow_colours(vectors((3, 0), (0, 3), (-3, 0), (0, -3)))[0].tolist()
    # places 0, 13.5, 27 and 40.5 on the published wheel of 55 colours; 255/0 parts are exact, others cut to a level
    assert right == [255, 0, 0]
    assert down == [255, (221 + 238) // 2, 0]
    assert left == [0, 209, 255]
    assert up == [(78 + 98) // 2, 0, 255]


def test_the_whole_wheel() -> None:
    # the 55 colours in turn, by the arcs as published: (count, channel that moves, up or down)
    colours, rgb = [], [255, 0, 0]
    for count, channel, sign in ((15, 1, 1), (6, 0, -1), (4, 2, 1), (11, 1, -1), (13, 0, 1), (6, 2, -1)):
        for step in range(count):
            rgb[channel] = 255 * step // count if sign > 0 else 255 - 255 * step // count
            colours.append(tuple(rgb))
        rgb[channel] = 255 if sign > 0 else 0
    angles = np.arange(55) / 54 * 2 * np.pi
    field = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None]
    picture = flow_colours(field, max_px=1 + 1e-6)[0, :54]  # the last one is the first one's direction
    assert len(colours) == 55
    assert np.abs(picture.astype(int) - colours[:54]).max() <= 1
    just_above_right = flow_colours(vectors((3, -1e-6)))[0, 0]
    assert tuple(just_above_right) == colours[54] == (255, 0, 255 - 255 * 5 // 6)


def test_right_is_red_whatever_the_sign_of_zero() -> None:
    assert flow_colours(vectors((2, 0.0), (2, -0.0)))[0].tolist() == [[255, 0, 0], [255, 0, 0]]


def test_lengths() -> None:
    still, half, full, longer, far = flow_colours(vectors((0, 0), (2, 0), (4, 0), (4.01, 0), (400, 0)), max_px=4)[0]
    assert still.tolist() == [255, 255, 255]
    assert half.tolist() == [255, 127, 127]
    assert full.tolist() == [255, 0, 0]
    assert longer.tolist() == far.tolist() == [191, 0, 0]  # three quarters


@given(
    flow=hnp.arrays(np.float32, (3, 4, 2), elements=st.floats(-40, 40, width=32)),
    factor=st.sampled_from([0.25, 2.0, 64.0]),
)
def test_without_a_scale_the_longest_vector_sets_it(flow, factor) -> None:
    flow[0, 0] = (60, 0)
    assert flow_colours(flow)[0, 0].tolist() == [255, 0, 0], "not darkened by rounding"
    assert np.array_equal(flow_colours(flow), flow_colours(flow * np.float32(factor)))
    assert np.array_equal(flow_colours(flow), flow_colours(flow, max_px=60))
    assert np.array_equal(flow_colours(flow), flow_colours(flow.astype(np.float64)))


@given(angle=st.floats(0, 2 * math.pi), length=st.floats(1e-3, 1e3))
def test_the_longest_vector_is_never_darkened(angle, length) -> None:
    field = vectors((length * math.cos(angle), length * math.sin(angle)), (0, 0))
    assert flow_colours(field)[0, 0].max() >= 254


def test_the_fields_of_a_clip_share_a_scale() -> None:
    clip = np.zeros((2, 3, 5, 6, 2), np.float32)
    clip[1, 2, ..., 0], clip[0, 0, ..., 0] = 8, 2
    pictures = flow_colours(clip)
    assert (pictures.dtype, pictures.shape) == (np.uint8, (2, 3, 5, 6, 3))
    assert pictures[1, 2, 0, 0].tolist() == [255, 0, 0]
    assert pictures[0, 0, 0, 0].tolist() == [255, 191, 191]
    assert np.array_equal(pictures[0, 0], flow_colours(clip[0, 0], max_px=8))


def test_unknown_flow_is_black_and_sets_no_scale() -> None:
    field = vectors((1e10, 1), (1, np.nan), (np.inf, 0), (0, 5), (0, 0))
    assert flow_colours(field)[0].tolist() == [[0, 0, 0]] * 3 + [[255, 229, 0], [255, 255, 255]]
    assert not flow_colours(field[:, :3]).any()
    assert (flow_colours(np.zeros((4, 4, 2))) == 255).all()


@pytest.mark.skipif(not MIDDLEBURY.exists(), reason=f"{MIDDLEBURY} is not here")
@pytest.mark.parametrize("name", sorted(REAL_COLOURS))
def test_real_truth(name) -> None:
    flow = read_flo(MIDDLEBURY / name / "flow10.flo")
    picture = flow_colours(flow)
    for place, colour in REAL_COLOURS[name].items():
        assert np.abs(picture[place].astype(int) - colour).max() <= 1, place
    assert np.array_equal(~known(flow), ~picture.any(axis=-1)), "black is unknown, and nothing else is"


def test_wheel() -> None:
    wheel = wheel_legend(101)
    assert wheel.shape == (101, 101, 3)
    assert wheel[50, 50].tolist() == list(PAPER)
    assert wheel[50, 100].tolist() == pytest.approx([255, 0, 0], abs=3)  # right
    assert wheel[100, 50].tolist() == pytest.approx([255, 229, 0], abs=3)  # down
    assert wheel[50, 0].tolist() == pytest.approx([0, 209, 255], abs=3)  # left
    assert wheel[0, 50].tolist() == pytest.approx([88, 0, 255], abs=3)  # up
    assert (wheel[[0, 0, -1, -1], [0, -1, 0, -1]] == PAPER).all()
    coloured = (wheel != 255).any(axis=-1).mean()
    assert coloured == pytest.approx(math.pi / 4, rel=0.02), "a disc that fills its square"


@pytest.fixture
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Four gray frames of growing brightness, and three fields: right by 1, 2 and 3 px."""
    frames = np.stack([np.full((64, 96), 50 * t, np.uint8) for t in range(4)])
    flows = np.zeros((3, 64, 96, 2), np.float32)
    flows[..., 0] = np.array([1, 2, 3])[:, None, None]
    return frames, flows


def test_strip_puts_each_frame_above_its_flow(clip) -> None:
    frames, flows = clip
    strip = flow_strip(frames, flows, max_px=2)
    width = CELL_HEIGHT_PX * 96 // 64
    assert (strip.dtype, strip.shape) == (
        np.uint8,
        (2 * CELL_HEIGHT_PX + GAP_PX, 3 * (width + GAP_PX) + LEGEND_WIDTH_PX, 3),
    )
    colours = [[255, 127, 127], [255, 0, 0], [191, 0, 0]]
    for column, colour in enumerate(colours):
        left = column * (width + GAP_PX)
        top = strip[:CELL_HEIGHT_PX, left : left + width]
        bottom = strip[CELL_HEIGHT_PX + GAP_PX :, left : left + width]
        assert (top == 50 * column).all()
        assert (bottom == colour).all()
        assert (strip[:, left + width : left + width + GAP_PX] == PAPER).all()
    assert np.array_equal(strip, flow_strip(list(frames[:3]), flows, max_px=2)), "the last frame has no field"


def test_strip_in_colour_and_of_another_size(clip) -> None:
    _, flows = clip
    frames = np.zeros((3, 128, 192, 3), np.uint8)
    frames[...] = (200, 100, 50)
    strip = flow_strip(frames, flows)
    assert strip[10, 10].tolist() == [200, 100, 50], "RGB stays RGB"
    assert strip.shape == flow_strip(frames[:, ::2, ::2], flows).shape


def test_strip_shows_columns_spread_evenly(clip) -> None:
    flows = np.repeat(clip[1][:1], 10, axis=0)
    frames = np.stack([np.full((64, 96), 20 * t, np.uint8) for t in range(10)])
    strip = flow_strip(frames, flows, num_columns=3)
    step = CELL_HEIGHT_PX * 96 // 64 + GAP_PX
    assert [int(strip[5, column * step + 5, 0]) for column in range(3)] == [0, 60, 120]
    assert strip.shape[1] == 3 * step + LEGEND_WIDTH_PX


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The lines of text that were drawn."""
    lines: list[str] = []
    draw = cv2.putText

    def put_text(picture: np.ndarray, text: str, *rest: object) -> np.ndarray:
        lines.append(text)
        before = picture.copy()
        draw(picture, text, *rest)
        assert (picture != before).any()
        assert (picture[:, -2:] == PAPER).all(), f"{text!r} fits its column"
        return picture

    monkeypatch.setattr(cv2, "putText", put_text)
    return lines


def test_strip_says_its_scale(clip, written) -> None:
    frames, flows = clip
    flow_strip(frames, flows, max_px=2.3456)
    assert sorted(written) == ["darker: longer", "rim: 2.35 px", "white: still"]
    written.clear()
    flows[0, 0, 0] = 1e9
    strip = flow_strip(frames, flows * np.float32(1.25), num_columns=1)
    assert sorted(written) == ["black: unknown", "darker: longer", "rim: 3.8 px", "white: still"]
    assert np.array_equal(strip, flow_strip(frames, flows * np.float32(1.25), max_px=3.8, num_columns=1)), "as written"


def test_one_wild_vector_does_not_pale_a_strip(clip) -> None:
    frames, flows = clip
    flows[0, 0, 0] = 50
    assert flow_strip(frames, flows)[-1, 2 * (192 + GAP_PX)].tolist() == [255, 0, 0]  # 3 px has the full colour
    still = np.zeros_like(flows)
    assert (flow_strip(frames, still)[-1, :190] == 255).all()
    still[0, 0, 0, 0] = 4  # so little moves that the percentile is 0: the longest vector sets the scale
    assert np.array_equal(flow_strip(frames, still), flow_strip(frames, still, max_px=4))


def test_png(tmp_path, clip) -> None:
    picture = flow_strip(*clip)
    assert png_bytes(picture) == png_bytes(picture.copy())
    save_png(tmp_path / "a.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR_RGB), picture)
    with pytest.raises(ReelmillError, match=r"a\.png: can't write this picture \(No such file or directory\)"):
        save_png(tmp_path / "no/a.png", picture)
    for bad in (picture[..., 0], picture.astype(float), picture[:0], picture[..., :2]):
        with pytest.raises(UsageError, match=r"a picture is a uint8 numpy array of shape \(H, W, 3\)"):
            png_bytes(bad)


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (np.zeros((4, 4, 2), np.uint8), "flow must be a floating-point numpy array in px, not uint8"),
        ([0.0], "flow must be a floating-point numpy array in px, not list"),
        (np.zeros((4, 4, 3)), r"flow must have the shape \(…, H, W, 2\), not \(4, 4, 3\)"),
        (np.zeros((4, 2)), r"not \(4, 2\)"),
        (np.zeros((0, 4, 2)), r"not \(0, 4, 2\)"),
    ],
)
def test_what_is_no_flow(flow, sentence) -> None:
    with pytest.raises(UsageError, match=sentence):
        flow_colours(flow)
    with pytest.raises(UsageError, match=sentence):
        flow_strip(np.zeros((1, 4, 4), np.uint8), flow)


@pytest.mark.parametrize("max_px", [0, -1.0, math.nan, math.inf, True, "4"])
def test_scales_that_are_none(clip, max_px) -> None:
    for call in (lambda: flow_colours(clip[1], max_px=max_px), lambda: flow_strip(*clip, max_px=max_px)):
        with pytest.raises(UsageError, match="max_px must be a finite number above 0, not"):
            call()


def test_strips_that_do_not_fit(clip) -> None:
    frames, flows = clip
    with pytest.raises(UsageError, match=r"flow and N or N \+ 1 frames, not \(3, 64, 96, 2\) and 2 frames"):
        flow_strip(frames[:2], flows)
    with pytest.raises(UsageError, match="and 4 frames"):
        flow_strip(frames, flows[:2])
    with pytest.raises(UsageError, match=r"not \(64, 96, 2\) and 4 frames"):
        flow_strip(frames, flows[0])
    with pytest.raises(UsageError, match=r"not \(0, 64, 96, 2\) and 1 frames"):
        flow_strip(frames[:1], flows[:0])
    with pytest.raises(UsageError, match="1 column or more, not 0"):
        flow_strip(frames, flows, num_columns=0)
    for bad, words in ((frames / 255, r"not float64 of shape \(64, 96\)"), (frames[..., None], r"\(64, 96, 1\)")):
        with pytest.raises(
            UsageError, match=r"a strip takes uint8 frames of shape \(H, W\) or \(H, W, 3\), .*" + words
        ):
            flow_strip(bad, flows)
    for size in (0, -3, 2.5, True):
        with pytest.raises(UsageError, match="the colour wheel's size must be a whole number of px above 0"):
            wheel_legend(size)
