"""The parameters and the pyramid's sizes, held against OpenCV."""

import dataclasses

import cv2
import numpy as np
import pytest

from pipeline.flow.params import MIN_SIDE_PX, TVL1Params, level_sizes
from schemas.errors import UsageError


def test_defaults_are_opencvs() -> None:
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    assert dataclasses.asdict(TVL1Params()) == {
        "tau": theirs.getTau(),
        "lambda_": theirs.getLambda(),
        "theta": theirs.getTheta(),
        "num_scales": theirs.getScalesNumber(),
        "num_warps": theirs.getWarpingsNumber(),
        "epsilon": theirs.getEpsilon(),
        "inner_iterations": theirs.getInnerIterations(),
        "outer_iterations": theirs.getOuterIterations(),
        "scale_step": theirs.getScaleStep(),
        "gamma": theirs.getGamma(),
        "median_filtering": theirs.getMedianFiltering(),
    }


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"tau": 0}, "tau must be above 0, not 0"),
        ({"lambda_": -0.1}, "lambda_ must be above 0, not -0.1"),
        ({"theta": 0.0}, "theta must be above 0, not 0.0"),
        ({"epsilon": 0}, "epsilon must be above 0, not 0"),
        ({"tau": float("nan")}, "tau must be a finite number, not nan"),
        ({"epsilon": float("inf")}, "epsilon must be a finite number, not inf"),
        ({"lambda_": "0.15"}, "lambda_ must be a finite number, not '0.15'"),
        ({"theta": None}, "theta must be a finite number, not None"),
        ({"num_scales": True}, "num_scales must be a finite number, not True"),
        ({"num_scales": 0}, "num_scales must be 1 or more, not 0"),
        ({"num_warps": 2.0}, "num_warps must be a whole number, not 2.0"),
        ({"inner_iterations": 0}, "inner_iterations must be 1 or more, not 0"),
        ({"outer_iterations": -3}, "outer_iterations must be 1 or more, not -3"),
        ({"scale_step": 1}, "scale_step must lie between 0 and 1, not 1"),
        ({"scale_step": 0.0}, "scale_step must lie between 0 and 1, not 0.0"),
        ({"gamma": -1}, "gamma must be 0 or more, not -1"),
        ({"median_filtering": 7}, "median_filtering must be 1, 3 or 5, not 7"),
    ],
)
def test_settings_that_can_not_be(setting, says) -> None:
    with pytest.raises(UsageError) as caught:
        TVL1Params(**setting)
    assert str(caught.value) == f"TV-L1: {says}"


def test_are_values() -> None:
    assert TVL1Params(tau=0.2) == TVL1Params(tau=0.2) != TVL1Params()
    assert len({TVL1Params(), TVL1Params(), TVL1Params(gamma=1)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        TVL1Params().tau = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        TVL1Params(0.25)  # type: ignore[misc]


@pytest.mark.parametrize("scale_step", [0.3, 0.5, 0.7, 0.8, 0.95, 1 / 3])
def test_level_sizes_are_those_of_opencvs_resize(scale_step) -> None:
    params = TVL1Params(scale_step=scale_step, num_scales=40)
    for width in range(16, 400, 3):
        height = 16 + (width * 7) % 300
        image = np.zeros((height, width), np.float32)
        sizes = level_sizes(height, width, params)
        for size in sizes:
            assert size == image.shape
            assert min(size) >= MIN_SIDE_PX
            image = cv2.resize(image, None, fx=scale_step, fy=scale_step, interpolation=cv2.INTER_LINEAR)
        assert min(image.shape) < MIN_SIDE_PX or len(sizes) == 40


def test_level_sizes() -> None:
    assert level_sizes(256, 340, TVL1Params()) == [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
    assert level_sizes(256, 340, TVL1Params(num_scales=2)) == [(256, 340), (205, 272)]
    assert level_sizes(16, 500, TVL1Params()) == [(16, 500)]
