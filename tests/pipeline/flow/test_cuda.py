"""The cuda backend against OpenCV: bit for bit, interpreted on the CPU here and on a GPU where there is one."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.flow import cpu, cuda
from pipeline.flow.params import TVL1Params
from schemas.errors import ReelmillError, UsageError

FEW = TVL1Params(num_scales=2, num_warps=2, inner_iterations=3, outer_iterations=2)
needs_gpu = pytest.mark.skipif(cuda.unavailable() is not None, reason=f"cuda: {cuda.unavailable()}")


def _frames(count, height, width, seed=0):
    """uint8 frames of a smooth texture under a motion that grows from frame to frame; the second is shown twice."""
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random((height + 40, width + 40)).astype(np.float32), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for number in range(count):
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), 0.7 * number**1.5, 1 + 0.01 * number)
        turn[:, 2] += (20 + 0.9 * number, 20 - 0.4 * number**1.3)
        moved = cv2.warpAffine(texture, turn, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        frames.append(np.clip(np.rint(moved + rng.normal(0, 1, moved.shape)), 0, 255).astype(np.uint8))
    return np.stack([frames[0], frames[1], *frames[1:-1]]) if count > 2 else np.stack(frames)


def _opencv(prev, following, params):
    algorithm = cv2.optflow.DualTVL1OpticalFlow_create(
        params.tau, params.lambda_, params.theta, params.num_scales, params.num_warps, params.epsilon,
        params.inner_iterations, params.outer_iterations, params.scale_step, params.gamma, params.median_filtering,
    )  # fmt: skip
    return algorithm.calc(prev, following, None)


def sequence_of(frames, params):
    return cuda.flow_sequence(frames, params=params)


def pairs_of(prev, following, params):
    return cuda.flow_pairs(prev, following, params=params)


def test_default_parameters_give_opencvs_bits(interpreted):
    frames = _frames(2, 16, 18, seed=17)
    flow = interpreted(pairs_of, frames[:1], frames[1:], TVL1Params())
    np.testing.assert_array_equal(flow[0], _opencv(frames[0], frames[1], TVL1Params()))
    assert np.abs(flow).max() > 0.3


def test_sequence_of_unequal_pairs_gives_opencvs_bits(interpreted):
    frames = _frames(4, 34, 36)
    flow = interpreted(sequence_of, frames, FEW)
    for number in range(3):
        np.testing.assert_array_equal(flow[number], _opencv(frames[number], frames[number + 1], FEW))
    assert not flow[1].any()  # the frame that is shown twice
    assert flow[0].any()


@pytest.mark.parametrize(
    "params",
    [
        TVL1Params(num_scales=1, num_warps=1, inner_iterations=3, outer_iterations=2, median_filtering=1),
        TVL1Params(num_scales=1, num_warps=1, inner_iterations=2, outer_iterations=3, median_filtering=3),
        TVL1Params(num_scales=2, num_warps=1, inner_iterations=7, outer_iterations=1, scale_step=0.7, lambda_=0.05),
        TVL1Params(num_scales=1, num_warps=2, inner_iterations=5, outer_iterations=2, tau=0.2, theta=0.2, epsilon=0.3),
    ],
)
def test_other_parameters_give_opencvs_bits(interpreted, params):
    prev, following = _frames(2, 29, 33, seed=1)
    flow = interpreted(pairs_of, prev[None], following[None], params)
    np.testing.assert_array_equal(flow[0], _opencv(prev, following, params))


def singles_and_floats(prev, following, params):
    import torch

    whole = torch.from_numpy(prev), torch.from_numpy(following)
    single = cuda.flow_cuda(*whole, params=params)
    floats = cuda.flow_cuda(*(frame.double()[None] for frame in whole), params=params)
    return single.numpy(), floats.numpy(), cuda.flow_pairs(prev[None][:0], prev[None][:0], params=params).shape


def test_single_frames_floats_and_empty_batches(interpreted):
    prev, following = _frames(2, 20, 20)
    params = TVL1Params(num_scales=1, num_warps=1, inner_iterations=2, outer_iterations=1)
    single, floats, empty = interpreted(singles_and_floats, prev, following, params)
    assert single.shape == (20, 20, 2)
    np.testing.assert_array_equal(single, _opencv(prev, following, params))
    np.testing.assert_array_equal(floats[0], single)
    assert empty == (0, 20, 20, 2)


def groups_under_memory_pressure(frames, params, fits):
    """What `sequence_cuda` gives, and the sizes of the groups it tried, where only `fits` pairs fit at a time."""
    import torch

    tried, together = [], cuda._together

    def pressed(jobs, outs, *, params):
        tried.append([len(first) for _, first, _ in jobs])
        if sum(tried[-1]) > fits:
            raise torch.cuda.OutOfMemoryError("out of memory")
        together(jobs, outs, params=params)

    cuda._together = pressed
    torch.cuda.synchronize, torch.cuda.empty_cache = (lambda device: None), (lambda: None)
    try:
        return cuda.flow_sequence(frames, params=params), tried
    except ReelmillError as error:
        return str(error), tried
    finally:
        cuda._together = together


def test_a_full_device_gets_smaller_groups(interpreted):
    frames = _frames(6, 16, 16)
    params = TVL1Params(num_scales=1, num_warps=1, inner_iterations=2, outer_iterations=1)
    flow, tried = interpreted(groups_under_memory_pressure, frames, params, 4)
    assert tried == [[3, 2], [2, 2], [1]]
    for number in range(5):
        np.testing.assert_array_equal(flow[number], _opencv(frames[number], frames[number + 1], params))


def test_a_device_without_room_for_a_pair_is_an_error_that_says_so(interpreted):
    message, tried = interpreted(groups_under_memory_pressure, _frames(3, 16, 16), FEW, 0)
    assert tried == [[1, 1]]
    assert "16×16 frames does not fit" in message


def complaint(kind):
    import torch

    frames = torch.zeros(2, 20, 20, dtype=torch.uint8)
    calls = {
        "gamma": lambda: cuda.sequence_cuda(frames, params=TVL1Params(gamma=1.0)),
        "small": lambda: cuda.sequence_cuda(frames[:, :15], params=FEW),
        "one": lambda: cuda.sequence_cuda(frames[:1], params=FEW),
        "dtype": lambda: cuda.sequence_cuda(frames.int(), params=FEW),
        "nan": lambda: cuda.sequence_cuda(frames.float() / 0, params=FEW),
        "range": lambda: cuda.sequence_cuda(frames.float() + 256, params=FEW),
        "shapes": lambda: cuda.flow_cuda(frames, frames[:1], params=FEW),
    }
    try:
        calls[kind]()
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gamma", "no illumination term"),
        ("small", "16 px a side or more, not (2, 15, 20)"),
        ("one", "two frames or more, not 1"),
        ("dtype", "not (2, 20, 20) int32 on cpu"),
        ("nan", "lie in 0–255, these reach from nan"),
        ("range", "from 256 to 256"),
        ("shapes", "one shape and device, not (2, 20, 20) uint8 on cpu and (1, 20, 20)"),
    ],
)
def test_frames_that_can_not_be_used_get_a_sentence(interpreted, kind, words):
    assert words in interpreted(complaint, kind)


def test_tensors_on_the_cpu_are_refused():  # also where there is no triton
    import torch

    with pytest.raises(UsageError, match=r"takes tensors on a CUDA device, and prev is .* on cpu"):
        cuda.flow_cuda(*torch.zeros(2, 1, 20, 20), params=FEW)


@pytest.mark.skipif(cuda.unavailable() is None, reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_is_missing():
    with pytest.raises(
        UsageError,
        match=r"backend 'cuda' can't be used: it needs (torch and triton|a CUDA build of torch|an NVIDIA GPU)",
    ):
        cuda.flow_sequence(np.zeros((2, 20, 20), np.uint8), params=FEW)


def test_importing_the_package_imports_neither_torch_nor_triton():
    code = "import sys, pipeline.flow, pipeline.flow.cuda; print([m for m in ('torch', 'triton') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@needs_gpu
@pytest.mark.gpu
def test_on_a_gpu_a_sequence_has_the_bits_of_the_cpu_backend():
    # not of OpenCV: machines with a GPU often have an OpenCV without contrib modules, and the cpu backend has its bits
    frames = _frames(6, 256, 340)
    flow = cuda.flow_sequence(frames, params=TVL1Params())
    np.testing.assert_array_equal(flow, cpu.flow_sequence(frames, params=TVL1Params(), threads=1))


@needs_gpu
@pytest.mark.gpu
def test_on_a_gpu_results_depend_on_neither_grouping_nor_turn(monkeypatch):
    import torch

    frames = torch.from_numpy(_frames(12, 120, 160)).cuda()
    expected = cuda.sequence_cuda(frames, params=TVL1Params())
    assert expected.is_cuda
    assert torch.equal(cuda.flow_cuda(frames[:-1], frames[1:], params=TVL1Params()), expected)
    for size, at_once in ((1, 1), (3, 2), (5, 3)):
        monkeypatch.setattr(cuda, "MOST_PAIRS", size)
        monkeypatch.setattr(cuda, "GROUPS_AT_ONCE", at_once)
        assert torch.equal(cuda.sequence_cuda(frames, params=TVL1Params()), expected)
