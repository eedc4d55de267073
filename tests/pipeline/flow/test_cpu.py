"""The cpu backend against OpenCV, bit for bit: self-made and real frames, settings, batches, threads, memory."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import moving, shared, video

from pipeline.flow import cpu, tvl1, tvl1_sequence
from pipeline.flow.flo import known, read_flo
from pipeline.flow.params import TVL1Params

FOLDER = Path(__file__).parent
QUICK = TVL1Params(num_scales=3, num_warps=2, outer_iterations=3, inner_iterations=6)


def assert_equals_opencv(prev, following, params=TVL1Params()):  # noqa: B008 (frozen)
    flow = tvl1(prev, following, params=params, backend="cpu")
    expected = tvl1(prev, following, params=params, backend="opencv")
    assert np.array_equal(flow.view(np.int32), expected.view(np.int32))
    return flow


def on_cpu(prev, following):
    return tvl1(prev, following, backend="cpu")


# below, at and above the vectors' 16 pixels
@pytest.mark.parametrize(
    ("height", "width"),
    [(16, 16), (17, 33), (20, 47), (16, 17), (33, 16), (16, 31), (19, 32), (40, 49), (16, 200), (200, 16), (63, 64)],
)
def test_sizes(height, width) -> None:
    assert assert_equals_opencv(*moving(height, width, seed=height)).any()


@pytest.mark.parametrize(
    "settings",
    [
        {"scale_step": 0.7},
        {"scale_step": 0.5},
        {"scale_step": 0.95, "num_scales": 30, "num_warps": 1},
        {"scale_step": 1 / 3},
        {"median_filtering": 3},
        {"median_filtering": 1},
        {"epsilon": 0.1},
        {"epsilon": 0.001},
        {"epsilon": 50.0},
        {"num_scales": 1},
        {"num_warps": 1},
        {"inner_iterations": 1, "outer_iterations": 1},
        {"inner_iterations": 7, "outer_iterations": 3},
        {"tau": 0.1},
        {"lambda_": 0.05},
        {"lambda_": 1.0, "tau": 0.02},
        {"theta": 0.1},
        {"theta": 0.5, "tau": 0.2, "lambda_": 0.3},
        {"gamma": 0.1},
    ],
    ids=str,
)
def test_settings(settings) -> None:
    frames = moving(50, 60)
    flow = assert_equals_opencv(*frames, TVL1Params(**settings))
    assert not np.array_equal(flow, tvl1(*frames, backend="cpu"))


def _frames(kind):
    texture = moving(48, 61)
    black = np.zeros_like(texture[0])
    if kind == "identical":
        return texture[0], texture[0]
    if kind == "constant":
        return black + 100, black + 103
    if kind == "black to white":
        return black, black + 255
    if kind == "inverted squares":
        squares = (np.indices(black.shape) // 3).sum(axis=0) % 2 == 0
        return np.where(squares, 255, black), np.where(squares, black, 255)
    if kind == "constant regions":
        for frame in texture:
            frame[8:40, 15:50] = 100
        return texture
    if kind == "one dot moves":
        first, second = black.copy(), black.copy()
        first[20, 20], second[20, 23] = 255, 255
        return first, second
    if kind == "noise":
        return tuple(np.random.default_rng(0).integers(0, 256, (2, *black.shape)).astype(np.uint8))
    return moving(48, 61, step_px={"out of the frame": (70.0, -20.0), "far": (15.0, 9.0)}[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "identical",
        "constant",
        "black to white",
        "inverted squares",
        "constant regions",
        "one dot moves",
        "noise",
        "far",
        "out of the frame",
    ],
)
def test_kinds_of_frames(kind) -> None:
    flow = assert_equals_opencv(*_frames(kind))
    assert flow.any() == (kind not in ("identical", "constant", "black to white"))


def test_illumination_term_is_opencvs() -> None:
    frames, params = moving(24, 40, count=3), TVL1Params(gamma=0.1, num_warps=2)
    expected = tvl1_sequence(frames, params=params, backend="opencv")
    assert np.array_equal(tvl1_sequence(frames, params=params, backend="cpu"), expected)


def test_whole_floats_are_the_same_frames() -> None:
    frames = moving(24, 40)
    expected = tvl1(*frames, params=QUICK, backend="cpu")
    for dtype in (np.float16, np.float32, np.float64):
        assert np.array_equal(tvl1(*frames.astype(dtype), params=QUICK, backend="cpu"), expected)
    assert np.array_equal(tvl1(frames[0].astype(float), frames[1], params=QUICK, backend="cpu"), expected)
    between = frames * np.float32(0.99)
    assert not np.array_equal(tvl1(*between, params=QUICK, backend="cpu"), expected)


def test_batches_sequences_and_threads() -> None:
    frames = moving(24, 40, count=14)
    expected = np.stack([tvl1(*pair, params=QUICK, backend="cpu") for pair in pairwise(frames)])
    assert len(np.unique(expected[:, 5, 5, 0])) == 13
    for threads in (1, 2, 3, 50):
        settings = {"params": QUICK, "backend": "cpu", "threads": threads}
        assert np.array_equal(tvl1(frames[:-1], frames[1:], **settings), expected)
        assert np.array_equal(tvl1_sequence(frames, **settings), expected)
        assert np.array_equal(tvl1_sequence(frames[:2], **settings), expected[:1])
        assert tvl1(frames[:0], frames[:0], **settings).shape == (0, 24, 40, 2)


def test_memory_layouts() -> None:
    frames = moving(24, 40, count=3)
    expected = tvl1_sequence(frames, params=QUICK, backend="cpu")
    wide = np.zeros((3, 24, 120), np.uint8)
    wide[:, :, ::3] = frames
    transposed = np.ascontiguousarray(frames.transpose(2, 0, 1)).transpose(1, 2, 0)
    backwards = frames[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    read_only = frames.copy()
    read_only.flags.writeable = False
    for same in (wide[:, :, ::3], transposed, np.asfortranarray(frames), backwards, read_only):
        for layout in (same, same.astype(np.float32)):
            assert np.array_equal(tvl1_sequence(layout, params=QUICK, backend="cpu"), expected)


def test_one_compilation_serves_all_layouts() -> None:
    frames = moving(24, 40)
    for pair in (frames, frames.astype(np.float32), frames.transpose(0, 2, 1), frames[:, ::-1]):
        tvl1(*pair, params=QUICK, backend="cpu")
    for kernel in (cpu.fill_quads, cpu.iterate, cpu.median_filter, cpu.warp):
        assert len(kernel.signatures) == 1


def test_memory_from_another_call_leaves_no_trace() -> None:
    small, large = moving(24, 40, seed=1), moving(40, 56, seed=2)
    expected = [tvl1(*frames, params=QUICK, backend="opencv") for frames in (small, large)]
    wild = TVL1Params(lambda_=1e38, tau=1e30, theta=1e10, num_scales=3)  # flow of 1e10 px and more
    with np.errstate(over="ignore"):
        for _ in range(2):
            assert np.abs(tvl1(*small, params=wild, backend="cpu")).max() > 1e9
            assert np.array_equal(tvl1(*small, params=QUICK, backend="cpu"), expected[0])
            assert np.array_equal(tvl1(*large, params=QUICK, backend="cpu"), expected[1])
            one_level = TVL1Params(num_scales=1, num_warps=1)
            tvl1(*small, params=one_level, backend="cpu")


def test_calls_from_several_threads() -> None:
    sizes = [(24, 40), (33, 30), (24, 40), (17, 64)]
    videos = [moving(*size, count=6, seed=seed) for seed, size in enumerate(sizes)]
    expected = [tvl1_sequence(frames, params=QUICK, backend="cpu") for frames in videos]
    differing = []

    def work(number):
        for _ in range(6):
            flow = tvl1_sequence(videos[number], params=QUICK, backend="cpu", threads=2)
            if not np.array_equal(flow, expected[number]):
                differing.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert differing == []


def test_memory_is_not_kept_after_an_error(monkeypatch) -> None:
    frames = moving(24, 40)
    expected = tvl1(*frames, params=QUICK, backend="cpu")
    real = cpu.warp

    def fails(grid, *rest):
        real(grid, *rest)
        grid[:] = np.nan
        raise RuntimeError("in the middle")

    monkeypatch.setattr(cpu, "warp", fails)
    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="in the middle"):
            tvl1(np.stack([frames[0]] * 2), np.stack([frames[1]] * 2), params=QUICK, backend="cpu", threads=threads)
    monkeypatch.undo()
    assert np.array_equal(tvl1(*frames, params=QUICK, backend="cpu"), expected)


HASH = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from footage import moving
from pipeline.flow import tvl1_sequence
flow = tvl1_sequence(moving(40, 50, count=4), backend="cpu", threads=2)
print(hashlib.sha256(flow.tobytes()).hexdigest())
"""


def test_same_bits_in_a_fresh_process() -> None:
    flows = [tvl1_sequence(moving(40, 50, count=4), backend="cpu") for _ in range(2)]
    hashes = [hashlib.sha256(flow.tobytes()).hexdigest() for flow in flows]
    command = [sys.executable, "-c", HASH, str(FOLDER)]
    fresh = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [fresh.stdout.strip()] * 2 == hashes


@pytest.mark.skipif(not hasattr(signal, "SIGSEGV") or os.name != "posix", reason="mprotect is POSIX")
@pytest.mark.parametrize("side", ["before", "behind"])
def test_no_load_or_store_leaves_its_array(side) -> None:
    program = [sys.executable, str(FOLDER / "guarded.py"), side]
    result = subprocess.run(program, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "whole\n"), result.stderr
    bitten = subprocess.run([*program, "bite"], capture_output=True, text=True)
    assert bitten.returncode == -signal.SIGSEGV


CROPS = [
    ("kinetics/R6llTwEh07w.mp4", 90, (60, 100), (47, 61)),
    ("ucf101/v_BaseballPitch_g01_c01.avi", 40, (90, 120), (64, 80)),
    ("ucf101/v_Rowing_g16_c03.avi", 30, (100, 100), (33, 95)),
    ("hmdb51/RATRACE_wave_f_nm_np1_fr_goo_37.avi", 30, (40, 200), (60, 79)),
    ("long/women_long_jump.mp4", 200, (150, 200), (80, 48)),
    ("long/vtest.avi", 60, (200, 300), (65, 97)),
    ("odd/test_non_zero_start.mp4", 4, (30, 70), (50, 50)),
    ("odd/vfr_header_lies_tree.avi", 8, (100, 150), (51, 63)),
]


@pytest.mark.parametrize(("name", "start", "corner", "size"), CROPS, ids=[crop[0] for crop in CROPS])
def test_real_crops(name, start, corner, size) -> None:
    (top, left), (height, width) = corner, size
    frames = video(name, start=start)[:, top : top + height, left : left + width]
    assert frames.shape == (2, height, width)
    assert assert_equals_opencv(*frames).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start", "step", "size"),
    [
        # in the first two, one length |∇u| that is rounded to the wrong side moves pixels by 0.6 and 3.7 px
        ("odd/opus_audio_flipping_a_pancake.mkv", 2, 2, (340, 256)),
        ("kinetics/R6llTwEh07w.mp4", 34, 2, None),
        ("activitynet/v_GGSY1Qvo990.mp4", 100, 1, None),
        ("odd/h265_video.mp4", 0, 1, None),
    ],
)
def test_real_frames(name, start, step, size) -> None:
    assert assert_equals_opencv(*video(name, start=start, step=step, size=size)).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "error_px", "solve"),
    [
        ("RubberWhale", 0.156, assert_equals_opencv),
        ("Dimetrodon", 0.180, on_cpu),  # OpenCV takes long, and has been met at this size
        ("Grove2", 0.157, on_cpu),
        ("Venus", 0.306, assert_equals_opencv),
    ],
)
def test_middlebury(name, error_px, solve) -> None:
    folder = shared(f"flow/middlebury/{name}")
    frames = [cv2.imread(str(folder / f"{frame}.png"), cv2.IMREAD_GRAYSCALE) for frame in ("frame10", "frame11")]
    flow, truth = solve(*frames), read_flo(folder / "flow10.flo")
    error = np.hypot(*np.moveaxis(flow - truth, -1, 0))[known(truth)].mean()
    assert error == pytest.approx(error_px, abs=0.0006)


def test_deepminds_own_flow() -> None:
    import av

    with av.open(str(shared("flow/cricket/v_CricketShot_g04_c01_flow.gif"))) as container:
        colours = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    theirs = (colours[..., :2] / np.float32(255) - np.float32(0.5)) * 20  # 8 bits for −10 … 10 px
    frames = video("ucf101/v_CricketShot_g04_c01.avi", start=0, count=80, size=(341, 256))
    numbers = np.arange(20, 60, 4)
    flow = tvl1(frames[numbers], frames[numbers + 1], backend="cpu")[:, 16:240, 58:282]

    def correlation(with_numbers):
        return np.corrcoef(flow.ravel(), theirs[with_numbers].ravel())[0, 1]

    assert correlation(numbers) >= 0.905
    assert max(correlation(numbers - 1), correlation(numbers + 1)) < 0.8
