"""The face: what goes in and comes out, one sentence for each input that can't be used, the choice of a backend."""

import numpy as np
import pytest
from footage import moving

from pipeline.flow import cuda, tvl1, tvl1_sequence
from pipeline.flow.params import MAX_SIDE_PX, TVL1Params
from pipeline.flow.tvl1 import resolve
from schemas.errors import UsageError

QUICK = TVL1Params(num_scales=2, num_warps=2, outer_iterations=2, inner_iterations=4)
FRAMES = moving(24, 36, count=4)
NO_GPU = "it needs an NVIDIA GPU, and torch finds none on this machine"
GRAY = FRAMES[0]
FLOATS = GRAY.astype(np.float32)


def says(call, *parts):
    """That `call` raises a UsageError of one sentence with these parts."""
    with pytest.raises(UsageError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence.startswith("TV-L1: ")
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("backend", ["cpu", "opencv"])
def test_shapes_and_dtypes(backend) -> None:
    settings = {"params": QUICK, "backend": backend}
    single = tvl1(FRAMES[0], FRAMES[1], **settings)
    batch = tvl1(FRAMES[:-1], FRAMES[1:], **settings)
    sequence = tvl1_sequence(FRAMES, **settings)
    empty = tvl1(FRAMES[:0], FRAMES[:0], **settings)
    floats = tvl1(FRAMES[:0].astype(float), FRAMES[:0].astype(float), **settings)
    for flow, shape in ((single, ()), (batch, (3,)), (sequence, (3,)), (empty, (0,)), (floats, (0,))):
        assert (flow.shape, flow.dtype) == ((*shape, 24, 36, 2), np.float32)
        assert isinstance(flow, np.ndarray)
    assert np.array_equal(batch[0], single)
    assert np.array_equal(batch, sequence)
    assert single.any()


@pytest.mark.parametrize("backend", ["cpu", "opencv"])
def test_flow_points_from_prev_to_next(backend) -> None:
    prev, following = moving(60, 80, step_px=(2.0, -1.0))
    inner = tvl1(prev, following, backend=backend)[15:-15, 15:-15]
    assert np.median(inner, axis=(0, 1)) == pytest.approx([2.0, -1.0], abs=0.1)


@pytest.mark.parametrize(
    ("prev", "following", "parts"),
    [
        (GRAY, GRAY[:, :-1], ["differ in size", "prev is (24, 36)", "next is (24, 35)"]),
        (FRAMES[:2], FRAMES[:3], ["differ in size", "(2, 24, 36)", "(3, 24, 36)"]),
        (GRAY, FRAMES[:1], ["differ in size"]),
        (GRAY[:15], GRAY[:15], ["prev must be 16 to 32766 px a side, not (15, 36)"]),
        (GRAY, GRAY[:, :3], ["next must be 16 to 32766 px a side, not (24, 3)"]),
        (GRAY[:0], GRAY[:0], ["must be 16 to 32766 px a side, not (0, 36)"]),
        (np.zeros((16, MAX_SIDE_PX + 1), np.uint8), GRAY, ["must be 16 to 32766 px a side, not (16, 32767)"]),
        (np.zeros((24, 36, 3), np.uint8), GRAY, ["prev must be 16 to 32766 px a side"]),  # colour, taken for a batch
        (np.zeros((2, 24, 36, 3), np.uint8), GRAY, ["gray frames of shape (H, W) or (N, H, W), not (2, 24, 36, 3)"]),
        (GRAY[0], GRAY[0], ["gray frames of shape (H, W) or (N, H, W), not (36,)"]),
        (GRAY.astype(np.int16), GRAY, ["prev must be uint8, or float in 0–255, not int16"]),
        (GRAY, GRAY > 9, ["next must be uint8, or float in 0–255, not bool"]),
        (GRAY.astype(np.complex64), GRAY, ["not complex64"]),
        (GRAY.astype(object), GRAY, ["not object"]),
        (np.where(GRAY > 90, np.nan, GRAY), GRAY, ["prev hold NaN or infinite values"]),
        (GRAY, np.where(GRAY > 90, np.inf, GRAY), ["next hold NaN or infinite values"]),
        (FLOATS - 100, FLOATS, ["prev of floats must lie in 0–255, these reach from -"]),
        (FLOATS, FLOATS + 100, ["next of floats must lie in 0–255", "to 3"]),
        (FLOATS / 255, FLOATS / 255, ["prev and next of floats must lie in 0–255", "multiply them by 255"]),
        (FLOATS / 255, FLOATS * 0, ["multiply them by 255"]),
        (FLOATS / 255, GRAY, ["multiply them by 255"]),
        (GRAY.tolist(), GRAY, ["prev must be a numpy array or a CUDA tensor, not list"]),
        (GRAY, None, ["next must be a numpy array or a CUDA tensor, not NoneType"]),
    ],
)
def test_pairs_that_can_not_be_used(prev, following, parts) -> None:
    for backend in ("cpu", "opencv", "auto"):
        says(lambda backend=backend: tvl1(prev, following, backend=backend), *parts)


@pytest.mark.parametrize(
    ("frames", "parts"),
    [
        (FRAMES[:1], ["needs two frames or more, this one has 1"]),
        (FRAMES[:0], ["needs two frames or more, this one has 0"]),
        (GRAY, ["frames must be gray frames of shape (N, H, W), not (24, 36)"]),
        (FRAMES / 255, ["frames of floats must lie in 0–255", "multiply them by 255"]),
        (list(FRAMES), ["frames must be a numpy array or a CUDA tensor, not list"]),
        (FRAMES[:, :9], ["frames must be 16 to 32766 px a side, not (9, 36)"]),
        (FRAMES.astype(np.uint16), ["not uint16"]),
    ],
)
def test_sequences_that_can_not_be_used(frames, parts) -> None:
    says(lambda: tvl1_sequence(frames), *parts)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_threads_that_can_not_be(threads) -> None:
    says(
        lambda: tvl1(GRAY, GRAY, backend="cpu", threads=threads),
        f"threads must be a whole number from 1, not {threads!r}",
    )
    says(lambda: tvl1_sequence(FRAMES, backend="opencv", threads=threads), "threads must be a whole number from 1")


def test_a_black_frame_is_a_frame() -> None:
    dark, black = FLOATS / 255, FLOATS * 0
    for prev, following in ((black, black), (FLOATS, black), (FLOATS, dark), (dark, FLOATS)):
        flows = [tvl1(prev, following, params=QUICK, backend=backend) for backend in ("cpu", "opencv")]
        assert np.isfinite(flows).all()
    assert tvl1_sequence(np.stack([FLOATS, dark, black]), params=QUICK, backend="cpu").shape == (2, 24, 36, 2)


def test_longest_side() -> None:
    frames = np.tile(moving(16, 62), (1, 1, 600))[:, :, :MAX_SIDE_PX]
    assert frames.shape == (2, 16, MAX_SIDE_PX)
    params = TVL1Params(num_warps=1, outer_iterations=1, inner_iterations=2)
    flows = [tvl1(*frames, params=params, backend=backend) for backend in ("cpu", "opencv")]
    assert np.array_equal(*flows)


def test_frames_are_left_as_they_were() -> None:
    for frames in (FRAMES.copy(), FRAMES.astype(np.float32)):
        before = frames.copy()
        frames.flags.writeable = False
        tvl1_sequence(frames, params=QUICK, backend="cpu")
        assert np.array_equal(frames, before)


def test_backends_that_are_not_there(monkeypatch) -> None:
    says(lambda: tvl1(GRAY, GRAY, backend="gpu"), "no backend 'gpu'; there are auto, cpu, cuda, opencv")
    says(lambda: tvl1_sequence(FRAMES, backend=None), "no backend None")
    monkeypatch.setattr(cuda, "unavailable", lambda: NO_GPU)
    for call in (lambda: tvl1(GRAY, GRAY, backend="cuda"), lambda: tvl1_sequence(FRAMES, backend="cuda")):
        says(call, f"backend 'cuda' can't be used: {NO_GPU}")


def test_resolve(monkeypatch) -> None:
    monkeypatch.setattr(cuda, "unavailable", lambda: NO_GPU)
    assert [resolve(name) for name in ("auto", "cpu", "opencv")] == ["cpu", "cpu", "opencv"]
    assert resolve("auto", TVL1Params(gamma=0.1)) == "cpu"
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    assert [resolve(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    assert resolve("auto", TVL1Params(gamma=0.1)) == "cpu"  # the cuda backend has no illumination term


def test_auto_is_cpu_without_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(cuda, "unavailable", lambda: NO_GPU)
    expected = tvl1(*FRAMES[:2], params=QUICK, backend="cpu")
    assert np.array_equal(tvl1(*FRAMES[:2], params=QUICK), expected)


class Tensor:
    """What the face looks at in a torch tensor on a GPU; there may be none here."""

    def __init__(self, device="cuda:0"):
        self.device, self.is_cuda = device, device.startswith("cuda")


def test_tensors_on_the_cpu() -> None:
    import torch

    frames = torch.zeros(2, 24, 36, dtype=torch.uint8)
    says(lambda: tvl1(frames, frames), "must be on a CUDA device, these are on cpu; pass .numpy() for the CPU")
    says(lambda: tvl1_sequence(frames), "must be on a CUDA device, these are on cpu")
    says(lambda: tvl1(frames, frames.numpy()), "lie in different places", "'prev': 'cpu'", "'next': 'numpy'")


def test_tensors_on_a_gpu_go_there(monkeypatch) -> None:
    monkeypatch.setattr(cuda, "flow_cuda", lambda prev, following, *, params: ("pair", prev, following, params))
    monkeypatch.setattr(cuda, "sequence_cuda", lambda frames, *, params: ("sequence", frames, params))
    one, other = Tensor(), Tensor()
    assert tvl1(one, other, params=QUICK) == ("pair", one, other, QUICK)
    assert tvl1_sequence(one, params=QUICK, backend="cuda") == ("sequence", one, QUICK)
    says(lambda: tvl1(one, GRAY), "lie in different places", "'cuda:0'", "'numpy'")
    says(lambda: tvl1(one, Tensor("cuda:1")), "lie in different places", "'cuda:0'", "'cuda:1'")
    for backend in ("cpu", "opencv"):
        says(lambda backend=backend: tvl1(one, other, backend=backend), f"backend '{backend}' takes numpy arrays, prev")
        says(lambda backend=backend: tvl1_sequence(one, backend=backend), "takes numpy arrays, frames are tensors on")
