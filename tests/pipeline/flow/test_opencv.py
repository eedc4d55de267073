"""The opencv backend is OpenCV's own algorithm, and leaves the process as it found it."""

import cv2
import numpy as np
import pytest
from footage import moving

from pipeline.flow import opencv, tvl1, tvl1_sequence
from pipeline.flow.params import TVL1Params
from schemas.errors import UsageError

QUICK = TVL1Params(num_warps=2, outer_iterations=2, inner_iterations=5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tau": 0.1, "lambda_": 0.3, "theta": 0.2, "epsilon": 0.05},
        {"num_scales": 2, "num_warps": 3, "inner_iterations": 4, "outer_iterations": 2},
        {"scale_step": 0.5, "median_filtering": 3},
        {"gamma": 0.1},
    ],
)
def test_hands_every_parameter_on(settings) -> None:
    params = TVL1Params(**settings)
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setTau(params.tau)
    theirs.setLambda(params.lambda_)
    theirs.setTheta(params.theta)
    theirs.setEpsilon(params.epsilon)
    theirs.setScalesNumber(params.num_scales)
    theirs.setWarpingsNumber(params.num_warps)
    theirs.setInnerIterations(params.inner_iterations)
    theirs.setOuterIterations(params.outer_iterations)
    theirs.setScaleStep(params.scale_step)
    theirs.setMedianFiltering(params.median_filtering)
    theirs.setGamma(params.gamma)
    frames = moving(40, 52)
    expected = theirs.calc(*frames, None)
    assert np.array_equal(tvl1(*frames, params=params, backend="opencv"), expected)
    assert (expected != theirs.calc(frames[1], frames[0], None)).any()


def test_small_frames_do_not_cost_later_ones_their_scales() -> None:
    small, large = moving(18, 18), moving(60, 60)
    expected = tvl1(*large, params=QUICK, backend="opencv")
    tvl1(*small, params=QUICK, backend="opencv")
    assert np.array_equal(tvl1(*large, params=QUICK, backend="opencv"), expected)


@pytest.mark.parametrize("error", [None, RuntimeError("in the middle")])
def test_threads_are_set_for_the_call_alone(error, monkeypatch) -> None:
    frames, seen, real = moving(20, 20), [], opencv._as_opencv_takes

    def spy(*pair):
        seen.append(cv2.getNumThreads())
        if error:
            raise error
        return real(*pair)

    monkeypatch.setattr(opencv, "_as_opencv_takes", spy)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        if error:
            with pytest.raises(RuntimeError, match="in the middle"):
                tvl1(*frames, params=QUICK, backend="opencv", threads=1)
        else:
            tvl1(*frames, params=QUICK, backend="opencv", threads=1)
            tvl1(*frames, params=QUICK, backend="opencv", threads=2)
            assert seen == [1, 2]
        assert seen[0] == 1
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_sequence_and_pairs() -> None:
    frames = moving(20, 24, count=4)
    pairs = tvl1(frames[:-1], frames[1:], params=QUICK, backend="opencv")
    assert np.array_equal(pairs, tvl1_sequence(frames, params=QUICK, backend="opencv"))
    assert np.array_equal(pairs, tvl1_sequence(frames, params=QUICK, backend="opencv", threads=2))
    assert np.array_equal(pairs[1], tvl1(frames[1], frames[2], params=QUICK, backend="opencv"))


def test_whole_floats_are_the_same_frames() -> None:
    frames = moving(20, 24)
    expected = tvl1(*frames, params=QUICK, backend="opencv")
    for dtype in (np.float16, np.float32, np.float64):
        assert np.array_equal(tvl1(*frames.astype(dtype), params=QUICK, backend="opencv"), expected)
    assert np.array_equal(tvl1(frames[0], frames[1].astype(float), params=QUICK, backend="opencv"), expected)


def test_floats_between_whole_numbers() -> None:
    frames = moving(20, 24)
    expected = tvl1(*frames, params=QUICK, backend="opencv")
    between = np.minimum(frames + np.float32(0.25), 255)
    assert (tvl1(*between, params=QUICK, backend="opencv") != expected).any()
    for pair in ((frames[0], between[1]), (between[0], frames[1].astype(np.float32))):  # OpenCV wants one type
        flow = tvl1(*pair, params=QUICK, backend="opencv")
        assert 0 < np.abs(flow - expected).max() < 1


@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_opencv_without_optflow(gamma, monkeypatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    frames, params = moving(20, 24), TVL1Params(gamma=gamma)
    with pytest.raises(UsageError, match="OpenCV has no `optflow` module here; install opencv-contrib-python-headless"):
        tvl1(*frames, params=params, backend="opencv")
    if gamma:  # the cpu backend leaves the illumination term to OpenCV
        with pytest.raises(UsageError, match="install opencv-contrib-python-headless"):
            tvl1(*frames, params=params, backend="cpu")
    else:
        assert tvl1(*frames, params=params, backend="cpu").shape == (20, 24, 2)
