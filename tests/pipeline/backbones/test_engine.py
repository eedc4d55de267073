"""The engine gives what the net gives, clip by clip and in order, however the clips are batched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_backbones import Small, small

from pipeline.backbones.engine import Engine
from pipeline.backbones.precision import Precision
from schemas.errors import ReelmillError

CPU = torch.device("cpu")
FP32 = Precision("fp32", "this test")


def rgb(num: int, *, frames: int = 4, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (num, frames, 16, 16, 3), np.uint8))


def engine(net: Small, **changes: object) -> Engine:
    return Engine(net, **{"layer": "conv2", "precision": FP32, "on": CPU, "batch_size": 3, **changes})  # type: ignore[arg-type]


def plain(net: Small, clip: np.ndarray, layer: str, *, dense: bool = False) -> np.ndarray:
    """One clip, without engine and without folding."""
    x = torch.from_numpy(clip).float().permute(3, 0, 1, 2)[None] * (2 / 255) - 1
    return net.features(x, layer=layer, dense=dense)[0].numpy()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 16])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "logits"])
def test_each_clip_in_order_whatever_the_batch(batch_size: int, layer: str) -> None:
    clips = rgb(7)
    found = list(engine(small(), layer=layer, batch_size=batch_size).run(clips))
    reference = small()
    assert len(found) == 7
    for clip, vector in zip(clips, found, strict=True):
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, plain(reference, clip, layer), atol=1e-5)


def test_maps() -> None:
    clips = rgb(2)
    found = list(engine(small(), layer="conv2", dense=True).run(clips))
    assert [one.shape for one in found] == [(12, 2, 8, 8)] * 2
    np.testing.assert_allclose(found[1], plain(small(), clips[1], "conv2", dense=True), atol=1e-5)


def test_clips_of_several_lengths() -> None:
    clips = [*rgb(2), *rgb(1, frames=6), *rgb(2, seed=1)]
    found = list(engine(small()).run(clips))
    for clip, vector in zip(clips, found, strict=True):
        np.testing.assert_allclose(vector, plain(small(), clip, "conv2"), atol=1e-5)


def test_views_that_share_a_frame_need_not_be_contiguous() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), np.uint8)
    views = [frames[:, :16, :16], frames[:, 4:, 8:][:, :, ::-1]]
    found = list(engine(small()).run(views))
    for view, vector in zip(views, found, strict=True):
        np.testing.assert_allclose(vector, plain(small(), np.ascontiguousarray(view), "conv2"), atol=1e-5)


def test_flow_as_levels_and_as_px_is_the_same() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16, 2), np.uint8)
    meaning = (np.arange(256) * (2 * 32 / 255) - 32).astype(np.float32)  # stored with a bound of 32, cut at 20
    of_levels = list(engine(small("flow"), meaning=meaning).run(levels))
    of_px = list(engine(small("flow")).run(meaning[levels]))
    np.testing.assert_array_equal(of_levels, of_px)
    cut = list(engine(small("flow")).run(meaning[levels].clip(-20, 20)))
    np.testing.assert_array_equal(of_px, cut)


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sizes = Engine._start, []

    def at_most_two(self: Engine, clips: list[np.ndarray]) -> object:
        sizes.append(len(clips))
        if len(clips) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return whole(self, clips)

    monkeypatch.setattr(Engine, "_start", at_most_two)
    clips = rgb(11)
    found = list(engine(small(), batch_size=8).run(clips))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    for clip, vector in zip(clips, found, strict=True):
        np.testing.assert_allclose(vector, plain(small(), clip, "conv2"), atol=1e-5)


def test_out_of_memory_while_others_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where two batches may be under way: they land first, then the same batch is tried again."""
    whole, under_way, sizes = Engine._start, 0, []

    class Later:
        def synchronize(self) -> None:
            nonlocal under_way
            under_way -= 1

    def crowded(self: Engine, clips: list[np.ndarray]) -> object:
        nonlocal under_way
        sizes.append(len(clips))
        if under_way:
            raise torch.OutOfMemoryError("no room beside what is under way")
        under_way += 1
        self._on = CPU
        flight = whole(self, clips)
        self._on = torch.device("cuda")
        return replace(flight, done=Later())

    monkeypatch.setattr(Engine, "_start", crowded)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    clips, net = rgb(7), engine(small(), batch_size=3)
    net._on = torch.device("cuda")
    found = list(net.run(clips))
    assert sizes == [3, 3, 3, 1, 1]
    for clip, vector in zip(clips, found, strict=True):
        np.testing.assert_allclose(vector, plain(small(), clip, "conv2"), atol=1e-5)


def test_a_single_clip_that_is_too_much_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Engine, clips: list[np.ndarray]) -> object:
        raise torch.OutOfMemoryError("2.00 GiB")

    monkeypatch.setattr(Engine, "_start", full)
    with pytest.raises(ReelmillError, match="out of memory with a single clip"):
        list(engine(small(), batch_size=8).run(rgb(3)))


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Engine, clips: list[np.ndarray]) -> object:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Engine, "_start", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(engine(small()).run(rgb(1)))


def test_reads_no_further_ahead_than_a_batch() -> None:
    taken = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal taken
        for clip in rgb(9):
            taken += 1
            yield clip

    stream = engine(small(), batch_size=3).run(source())
    next(stream)
    assert taken == 3


def test_bf16_is_near() -> None:
    exact = list(engine(small()).run(rgb(3)))
    near = list(engine(small(), precision=Precision("bf16", "this test")).run(rgb(3)))
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.05)
    assert not np.array_equal(near, exact)


def test_no_clips_no_results() -> None:
    assert list(engine(small()).run([])) == []


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same() -> None:
    cuda = torch.device("cuda")
    clips = [*rgb(5), *rgb(3, frames=6)]
    exact = list(engine(small()).run(clips))
    on_gpu = engine(small(), on=cuda)
    began_s = time.perf_counter()
    found = list(on_gpu.run(clips))
    elapsed_s = time.perf_counter() - began_s
    for a, b in zip(exact, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert on_gpu.device_s is not None
    assert 0 < on_gpu.device_s <= elapsed_s


class _Event:
    """As CUDA's: the time between two is said in milliseconds."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: _Event) -> float:
        return 1000 * (other.at_s - self.at_s)


def test_the_device_tells_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Engine._start

    def timed(self: Engine, clips: list[np.ndarray]) -> object:
        return replace(whole(self, clips), began=_Event(10.0), done=_Event(10.25))

    net = engine(small(), batch_size=2)
    assert net.device_s is None  # on a CPU there is no such clock
    list(net.run(rgb(3)))
    assert net.device_s is None
    monkeypatch.setattr(Engine, "_start", timed)
    list(net.run(rgb(3)))
    assert net.device_s == 0.5
