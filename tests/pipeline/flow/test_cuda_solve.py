"""The host's side of the cuda backend, with the kernels interpreted on the CPU."""

import cv2
import numpy as np
import pytest

from pipeline.flow.params import TVL1Params


def levels_of(frames, params):
    import torch

    from pipeline.flow.cuda_solve import pyramid

    return [level.images.numpy() for level in pyramid(torch.from_numpy(frames), params=params)]


@pytest.mark.parametrize(
    ("size", "num_scales", "sizes"),
    [
        ((48, 40), 5, [(48, 40), (38, 32), (30, 26), (24, 21), (19, 17)]),
        ((24, 90), 5, [(24, 90), (19, 72)]),  # the next level would be 15 px high
        ((48, 40), 2, [(48, 40), (38, 32)]),
    ],
)
def test_pyramid_has_opencvs_levels_and_bits(interpreted, size, num_scales, sizes):
    frames = (np.random.default_rng(0).random((2, *size)) * 255).astype(np.float32)
    levels = interpreted(levels_of, frames, TVL1Params(num_scales=num_scales))
    assert [level.shape[1:] for level in levels] == sizes
    for number in range(2):
        expected = frames[number]
        for level in levels:
            np.testing.assert_array_equal(level[number], expected)
            expected = cv2.resize(expected, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_LINEAR)


def limits_of(pixels, epsilon):
    import torch

    from pipeline.flow.cuda_solve import limits

    return limits(pixels, epsilon=epsilon, device=torch.device("cpu")).numpy()


@pytest.mark.parametrize("pixels", [16 * 16, 340 * 256, 4096 * 2160, 2**25])
def test_limits_leave_room_for_every_rounding_of_the_sequential_sum(interpreted, pixels):
    threshold, surely_at_most, surely_above = interpreted(limits_of, pixels, 0.01)
    assert threshold == np.float32(0.01 * 0.01 * pixels)
    assert 0 < surely_at_most * (1 + 2.0**-24) ** pixels < threshold
    assert surely_above * (1 - 2.0**-24) ** pixels > threshold


def test_a_float32_sum_can_be_off_as_far_as_the_limits_allow_for():
    """Why the doubtful range must be wide: equal terms below half a grid step are lost one and all."""
    terms = np.full(2**19, 2.0**-25, np.float32)
    terms[0] = 1
    assert np.cumsum(terms, dtype=np.float32)[-1] == 1
    assert terms.sum(dtype=np.float64) > 1.015


def upsampled_of(u, parity, size):
    import torch

    from pipeline.flow.cuda_solve import halves, upsampled

    u, parity = torch.from_numpy(u), torch.tensor(parity, dtype=torch.int32)
    return halves(u, parity).numpy(), upsampled(u, parity, size, factor=1 / 0.7)[0].numpy()


def test_upsampling_takes_each_pairs_current_half_and_scales_it(interpreted):
    u = np.random.default_rng(3).standard_normal((2, 2, 2, 17, 21)).astype(np.float32)
    current, larger = interpreted(upsampled_of, u, [1, 0], (24, 30))
    for pair, half in enumerate([1, 0]):
        np.testing.assert_array_equal(current[:, pair], u[half, :, pair])
        for component in range(2):
            resized = cv2.resize(u[half, component, pair], (30, 24), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_array_equal(larger[component, pair], cv2.multiply(resized, 1 / 0.7))


def work_of(frames, first, second, params):
    import torch

    from pipeline.flow.cuda_solve import solve

    run = solve(torch.from_numpy(frames), first, second, params=params)
    while True:
        try:
            next(run)
        except StopIteration as stop:
            return [tensor.numpy() for tensor in stop.value]


def test_pairs_of_a_group_stop_on_their_own(interpreted):
    """Identical frames need one iteration a warp, whatever their neighbours in the group need."""
    frames = (np.random.default_rng(5).random((2, 17, 19)) * 255).astype(np.float32)
    params = TVL1Params(num_scales=1, num_warps=2, inner_iterations=2, outer_iterations=3)
    flow, work = interpreted(work_of, frames, [0, 0], [0, 1], params)
    assert work.tolist() == [2 * 17 * 19, 2 * 6 * 17 * 19]
    assert not flow[0].any()
    assert flow[1].any()
