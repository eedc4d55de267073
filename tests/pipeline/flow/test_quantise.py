import dataclasses
import tracemalloc
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.flow.quantise import CHUNK, dequantise, quantisation_report, quantise
from schemas.errors import ReelmillError, UsageError

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared/data"
CRICKET = SHARED / "flow/cricket/v_CricketShot_g04_c01_flow.gif"
CRICKET_VIDEO = SHARED / "videos/ucf101/v_CricketShot_g04_c01.avi"

BOUNDS = st.floats(0.5, 200)
FLOWS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-300, 300, width=32))


def denseflow(v: float, bound: float) -> int:
    """One value by denseflow's CAST macro, L = -bound and H = bound; Python rounds halves to even, as cvRound does."""
    low, high = -bound, bound
    return 255 if v > high else 0 if v < low else round(255 * (v - low) / (high - low))


@given(FLOWS, BOUNDS)
def test_every_level_is_denseflows(flow, bound) -> None:
    levels = quantise(flow, bound=bound)
    assert (levels.dtype, levels.shape) == (np.uint8, flow.shape)
    assert levels.ravel().tolist() == [denseflow(v, bound) for v in flow.ravel().tolist()]


def test_halves_go_to_the_even_level() -> None:
    # the five values of [-20, 20] that lie exactly between two levels: 25.5, 76.5, 127.5, 178.5, 229.5
    ties = np.array([-16, -8, 0, 8, 16], np.float32)
    assert quantise(ties).tolist() == [26, 76, 128, 178, 230]


def test_the_bound_covers_all_levels_and_what_is_beyond_is_cut() -> None:
    flow = np.array([-1e9, -20.1, -20, -19.9, 19.9, 20, 20.1, 1e9])
    assert quantise(flow).tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    assert quantise(flow / 4, bound=5).tolist() == quantise(flow).tolist()


@given(BOUNDS)
def test_levels_survive_the_round_trip(bound) -> None:
    levels = np.arange(256, dtype=np.uint8)
    flow = dequantise(levels, bound=bound)
    assert flow.dtype == np.float32
    assert quantise(flow, bound=bound).tolist() == levels.tolist()
    assert flow == pytest.approx(-flow[::-1], abs=1e-6 * bound)


def test_still_pixels_come_back_as_half_a_level() -> None:
    assert dequantise(quantise(np.zeros(1)), bound=20)[0] == pytest.approx(20 / 255)


@given(FLOWS, BOUNDS)
def test_within_the_bound_at_most_half_a_level_is_lost(flow, bound) -> None:
    back = dequantise(quantise(flow, bound=bound), bound=bound)
    inside = np.clip(flow, -bound, bound)
    assert np.abs(back - inside).max() <= bound / 255 * (1 + 1e-4) + 1e-5


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype) -> None:
    flow = np.linspace(-21, 21, 999).astype(dtype)
    assert quantise(flow).tolist() == [denseflow(float(v), 20) for v in flow]


def test_views_and_read_only_arrays() -> None:
    flow = np.random.default_rng(0).normal(0, 9, (3, 40, 50, 2)).astype(np.float32)
    planes = flow.transpose(3, 0, 2, 1)[:, ::-1, ::3]
    planes.flags.writeable = False
    levels = quantise(planes)
    assert np.array_equal(levels, quantise(np.ascontiguousarray(planes)))
    levels.flags.writeable = False
    assert quantisation_report(planes, levels, bound=9) == quantisation_report(planes.copy(), levels.copy(), bound=9)


def test_report() -> None:
    flow = np.zeros((2, CHUNK, 2), np.float32)  # more than one chunk, so that sums go on over them
    flow[0, :, 0] = -20
    flow[0, :, 1] = 20  # the bounds themselves are inside
    flow[1, ::2, 1] = -26
    report = quantisation_report(flow, quantise(flow), bound=20)
    squares = 0.125 * 6**2 + 0.375 * (20 / 255) ** 2
    assert dataclasses.asdict(report) == pytest.approx(
        {"saturated": 0.125, "rmse_px": squares**0.5, "max_abs_px": 26.0}, rel=1e-12
    )
    assert all(type(value) is float for value in dataclasses.asdict(report).values()), "json.dumps takes them"


def test_report_shows_a_wrong_bound() -> None:
    flow = np.random.default_rng(1).normal(0, 6, (4, 60, 80, 2)).astype(np.float32)
    small, good, large = (quantisation_report(flow, quantise(flow, bound=b), bound=b) for b in (4, 30, 400))
    assert small.saturated > 0.4
    assert good.saturated == large.saturated == 0
    assert good.rmse_px == pytest.approx(2 * 30 / 255 / 12**0.5, rel=0.05)  # a uniform error within a level
    assert min(small.rmse_px, large.rmse_px) > 5 * good.rmse_px
    assert small.max_abs_px == good.max_abs_px == np.abs(flow).max()


def test_report_of_levels_that_went_through_a_jpeg() -> None:
    u = np.add.outer(np.linspace(-9, 9, 64), np.linspace(-9, 9, 64)).astype(np.float32)
    levels = quantise(u)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", levels)[1], cv2.IMREAD_GRAYSCALE)
    expected = float(np.sqrt(np.mean((dequantise(jpeg, bound=20).astype(float) - u) ** 2)))
    assert quantisation_report(u, jpeg, bound=20).rmse_px == pytest.approx(expected, rel=1e-5)
    assert quantisation_report(u, jpeg, bound=20).rmse_px > quantisation_report(u, levels, bound=20).rmse_px


def test_no_big_temporaries() -> None:
    flow = np.ones((64, 128, 128, 2), np.float32)
    levels = quantise(flow)
    report = partial(quantisation_report, flow, levels, bound=20)
    for work, allowed in ((partial(quantise, flow), flow.size), (report, 0)):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < allowed + 64 * CHUNK


def test_a_wide_field_of_nothing() -> None:
    assert quantise(np.zeros((0, 4, 2), np.float32)).shape == (0, 4, 2)


@pytest.mark.parametrize("bound", [0, -20, float("nan"), float("inf"), True, "20", None])
def test_bounds_that_are_none(bound) -> None:
    flow, levels = np.zeros((2, 2)), np.zeros((2, 2), np.uint8)
    for call in (
        lambda: quantise(flow, bound=bound),
        lambda: dequantise(levels, bound=bound),
        lambda: quantisation_report(flow, levels, bound=bound),
    ):
        with pytest.raises(UsageError, match="the bound of quantised flow must be a finite number of px above 0"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_no_level_stands_for(bad) -> None:
    flow = np.zeros((3, CHUNK), np.float32)
    flow[-1, -1] = bad
    with pytest.raises(ReelmillError, match="flow holds NaN or infinity"):
        quantise(flow)
    with pytest.raises(ReelmillError, match="flow holds NaN or infinity"):
        quantisation_report(flow, np.zeros(flow.shape, np.uint8), bound=20)


def test_wrong_kinds_of_array() -> None:
    with pytest.raises(UsageError, match="flow must be a floating-point numpy array in px, not uint8"):
        quantise(np.zeros(3, np.uint8))
    with pytest.raises(UsageError, match="not list"):
        quantise([0.0])
    with pytest.raises(UsageError, match="quantised flow must be a uint8 numpy array, not float32"):
        dequantise(np.zeros(3, np.float32), bound=20)
    with pytest.raises(UsageError, match=r"flow of shape \(3,\) and levels of shape \(3, 1\) can't be compared"):
        quantisation_report(np.zeros(3), np.zeros((3, 1), np.uint8), bound=20)
    with pytest.raises(UsageError, match="can't be compared"):
        quantisation_report(np.zeros(0), np.zeros(0, np.uint8), bound=20)


def frames_of(path: Path, count: int) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    return [capture.read()[1][..., ::-1] for _ in range(count)]


@pytest.mark.skipif(not CRICKET.exists(), reason=f"{CRICKET} is not here")
def test_the_published_cricket_flow_is_bound_10() -> None:
    """DeepMind's picture of its own flow says u_px = (R/255 - .5) * 20: that is this rule with a bound of 10."""
    gif = frames_of(CRICKET, 36)[35]
    flow = dequantise(np.ascontiguousarray(gif[..., :2]), bound=10)
    assert flow == pytest.approx((gif[..., :2] / 255.0 - 0.5) * 20, abs=1e-5)
    previous, following = (scaled_gray(frame) for frame in frames_of(CRICKET_VIDEO, 37)[35:])
    computed = cv2.optflow.DualTVL1OpticalFlow_create().calc(previous, following, None)[16:240, 58:282]
    moving = np.abs(computed) > 1
    errors = {b: np.abs(dequantise(gif[..., :2], bound=b) - computed)[moving].mean() for b in (5, 10, 20)}
    assert errors[10] < 0.5 * min(errors[5], errors[20])


def scaled_gray(rgb: np.ndarray) -> np.ndarray:
    """Gray of 256 rows, as I3D's own preparation scales; its 224 x 224 centre is what the picture shows."""
    width = round(rgb.shape[1] * 256 / rgb.shape[0])
    return cv2.cvtColor(cv2.resize(rgb, (width, 256)), cv2.COLOR_RGB2GRAY)
