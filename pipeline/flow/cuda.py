"""TV-L1 on an NVIDIA GPU (Triton kernels): OpenCV's arithmetic to the bit, many frame pairs at a time.

torch and triton are imported when a function runs, so that the package imports without them. `TRITON_INTERPRET=1`
runs the same kernels on the CPU, slowly: that is how they are tested where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from pipeline.flow.params import MIN_SIDE_PX, TVL1Params
from schemas.errors import ReelmillError, UsageError

if TYPE_CHECKING:
    import torch

PIXELS_A_GROUP = 64 * 340 * 256  # one launch serves a group of pairs: the coarsest level, too, must fill the device
MOST_PAIRS = 1024  # of a group, however small the frames
GROUPS_AT_ONCE = 2  # each on its own stream: while one waits for its last pair, the other fills the device

_LOCK = Lock()  # calls from several threads take turns: they share the streams

Job = tuple["torch.Tensor", list[int], list[int]]  # float32 frames, and the numbers of each pair's two frames
Result = tuple["torch.Tensor", "torch.Tensor"]  # flow, pixel-iterations


def unavailable() -> str | None:
    """None, or why no GPU can be used here."""
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        return f"it needs torch and triton, and {error.name} is not installed; CUDA builds of torch bring both"
    if torch.version.cuda is None:
        return f"it needs a CUDA build of torch, and this is torch {torch.__version__}"
    if not torch.cuda.is_available():
        return "it needs an NVIDIA GPU, and torch finds none on this machine"
    return None


def flow_pairs(prev: np.ndarray, next: np.ndarray, *, params: TVL1Params, threads: int = 1) -> np.ndarray:
    """`flow_cuda` of numpy arrays, through the current device and back; `threads` has no meaning here."""
    return flow_cuda(_to_device(prev), _to_device(next), params=params).cpu().numpy()


def flow_sequence(frames: np.ndarray, *, params: TVL1Params, threads: int = 1) -> np.ndarray:
    """`sequence_cuda` of a numpy array, through the current device and back; `threads` has no meaning here."""
    return sequence_cuda(_to_device(frames), params=params).cpu().numpy()


def flow_cuda(prev: torch.Tensor, next: torch.Tensor, *, params: TVL1Params) -> torch.Tensor:
    """Flow from each `prev` frame to its `next` frame: (N, H, W) twice -> (N, H, W, 2) float32 px, on their device.

    Or (H, W) -> (H, W, 2). Frames are uint8, or float in 0–255, on one CUDA device. Raises UsageError for anything
    else, and ReelmillError where a single pair does not fit the device's memory.
    """
    if prev.ndim == 2 and next.ndim == 2:
        return flow_cuda(prev[None], next[None], params=params)[0]
    return pairs_cuda(prev, next, params=params)[0]


def pairs_cuda(prev: torch.Tensor, next: torch.Tensor, *, params: TVL1Params) -> Result:
    """The flow (N, H, W, 2) of a batch of pairs, and the pixel-iterations that each took: (N,) int64."""
    import torch

    _check("prev", prev, params=params)
    _check("next", next, params=params)
    if (prev.shape, prev.device) != (next.shape, next.device):
        raise UsageError(f"TV-L1: prev and next need one shape and device, not {_kind(prev)} and {_kind(next)}")

    def job(start: int, stop: int) -> Job:
        count = stop - start
        frames = torch.cat([prev[start:stop].float(), next[start:stop].float()])
        return frames, list(range(count)), list(range(count, 2 * count))

    return _in_groups(len(prev), job, like=prev, params=params)


def sequence_cuda(frames: torch.Tensor, *, params: TVL1Params) -> torch.Tensor:
    """Flow between neighbours: (T, H, W) -> (T-1, H, W, 2) float32 px; pyramids and gradients are made once a frame."""
    _check("frames", frames, params=params)
    if len(frames) < 2:
        raise UsageError(f"TV-L1: a sequence needs two frames or more, not {len(frames)}")

    def job(start: int, stop: int) -> Job:
        count = stop - start
        return frames[start : stop + 1].float(), list(range(count)), list(range(1, count + 1))

    return _in_groups(len(frames) - 1, job, like=frames, params=params)[0]


def _interpreted() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return bool(triton.knobs.runtime.interpret)


def _to_device(frames: np.ndarray) -> torch.Tensor:
    import torch

    reason = None if _interpreted() else unavailable()
    if reason:
        raise UsageError(f"TV-L1: backend 'cuda' can't be used: {reason}")
    return torch.tensor(np.ascontiguousarray(frames)).to("cpu" if _interpreted() else "cuda")


def _kind(frames: torch.Tensor) -> str:
    return f"{tuple(frames.shape)} {str(frames.dtype).removeprefix('torch.')} on {frames.device}"


def _check(name: str, frames: torch.Tensor, *, params: TVL1Params) -> None:
    import torch

    if params.gamma != 0:
        raise UsageError(f"TV-L1: backend 'cuda' has no illumination term (gamma {params.gamma}): use backend 'cpu'")
    if not frames.is_cuda and not _interpreted():
        raise UsageError(f"TV-L1: backend 'cuda' takes tensors on a CUDA device, and {name} is {_kind(frames)}")
    if frames.ndim != 3 or min(frames.shape[1:]) < MIN_SIDE_PX:
        raise UsageError(f"TV-L1: {name} must be gray (N, H, W), {MIN_SIDE_PX} px a side or more, not {_kind(frames)}")
    if frames.dtype == torch.uint8 or frames.numel() == 0:
        return
    if not frames.is_floating_point():
        raise UsageError(f"TV-L1: {name} must be uint8, or float in 0–255, not {_kind(frames)}")
    low, high = (float(value) for value in torch.aminmax(frames))  # NaN if any is
    if not (low >= 0 and high <= 255):
        raise UsageError(f"TV-L1: {name} of floats must lie in 0–255, these reach from {low:g} to {high:g}")


def _in_groups(count: int, job: Callable[[int, int], Job], *, like: torch.Tensor, params: TVL1Params) -> Result:
    """Runs `count` pairs in groups, smaller ones each time the device's memory does not suffice."""
    import torch

    _, height, width = like.shape
    size = max(1, min(PIXELS_A_GROUP // (height * width), MOST_PAIRS, -(-count // GROUPS_AT_ONCE)))
    try:
        flow = torch.empty((count, height, width, 2), dtype=torch.float32, device=like.device)
    except torch.cuda.OutOfMemoryError:
        raise ReelmillError(f"TV-L1: the flow of {count} pairs does not fit the memory of {like.device}") from None
    work = torch.empty(count, dtype=torch.int64, device=like.device)
    start = 0
    while start < count:
        ranges = [(a, min(a + size, count)) for a in range(start, count, size)][:GROUPS_AT_ONCE]
        full = False
        try:
            with _LOCK:
                _together([job(*span) for span in ranges], [(flow[a:b], work[a:b]) for a, b in ranges], params=params)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.synchronize(like.device)
            full = True  # what the failed groups hold is let go with the exception, after this block
        if full:
            if size == 1:
                raise ReelmillError(
                    f"TV-L1: a pair of {width}×{height} frames does not fit the memory that is free on "
                    f"{like.device}: free some, use smaller frames, or backend 'cpu'"
                )
            torch.cuda.empty_cache()
            size = -(-size // 2)
        else:
            start = ranges[-1][1]
    return flow, work


def _together(jobs: list[Job], outs: list[Result], *, params: TVL1Params) -> None:
    """Runs each group on a stream of its own; they take turns at launching."""
    import torch

    from pipeline.flow.cuda_solve import solve

    device = jobs[0][0].device
    runs = [_into(out, solve(*job, params=params)) for job, out in zip(jobs, outs, strict=True)]
    if device.type != "cuda":
        for run in runs:
            for _ in run:
                pass
        return
    caller = torch.cuda.current_stream(device)
    streams = [_stream(device, number) for number in range(len(runs))]
    for stream in streams:
        stream.wait_stream(caller)
    turns: list[tuple[Generator, torch.cuda.Stream, torch.cuda.Event | None]] = []
    turns += [(run, stream, None) for run, stream in zip(runs, streams, strict=True)]
    while turns:
        run, stream, event = turns.pop(0)
        if event is not None:
            event.synchronize()
        with torch.cuda.stream(stream):
            event = next(run, None)
        if event is not None:
            turns.append((run, stream, event))
    for stream in streams:
        caller.wait_stream(stream)


@cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """The same few streams in every call: torch keeps freed memory for the stream that had it."""
    import torch

    return torch.cuda.Stream(device)


def _into(out: Result, run: Generator[torch.cuda.Event, None, Result]) -> Generator[torch.cuda.Event, None, None]:
    flow, work = yield from run
    out[0].copy_(flow)
    out[1].copy_(work)
