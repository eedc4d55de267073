"""TV-L1 optical flow: one face over the backends."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from pipeline.flow.params import MAX_SIDE_PX, MIN_SIDE_PX, TVL1Params
from schemas.errors import UsageError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "cpu", "cuda", "opencv"]
_DEFAULTS = TVL1Params()


@overload
def tvl1(
    prev: np.ndarray, next: np.ndarray, *, params: TVL1Params = ..., backend: Backend = ..., threads: int = ...
) -> np.ndarray: ...
@overload
def tvl1(
    prev: torch.Tensor, next: torch.Tensor, *, params: TVL1Params = ..., backend: Backend = ..., threads: int = ...
) -> torch.Tensor: ...
def tvl1(prev: Any, next: Any, *, params: TVL1Params = _DEFAULTS, backend: Backend = "auto", threads: int = 1) -> Any:
    """Optical flow from `prev` to `next` by the duality-based TV-L1 method (Zach, Pock and Bischof 2007).

    The algorithm is OpenCV's `DualTVL1OpticalFlow`, step by step; backend "cpu" gives the bits of OpenCV 5.0 on x86-64
    (see docs/tvl1.md), at many times its speed.

    prev, next: gray frames (H, W) or (N, H, W), at least 16 px a side, uint8, or float in 0–255. numpy arrays, or torch
        tensors on one CUDA device, which then do the work.
    threads: CPU threads that share the pairs of a batch; one pair never takes more than one.
    Returns float32 (H, W, 2) or (N, H, W, 2) in pixels: next(x + u, y + v) ≈ prev(x, y), u = [..., 0] to the right,
    v = [..., 1] down. A numpy array for numpy arrays, a tensor on the same device for tensors.
    Raises UsageError for frames or settings that can't be used, or a backend that isn't there.
    """
    pair = {"prev": prev, "next": next}
    if _on_device(pair):
        return _cuda(backend, pair).flow_cuda(prev, next, params=params)
    first, second = (_checked(name, frames, (2, 3)) for name, frames in pair.items())
    if first.shape != second.shape:
        raise UsageError(f"TV-L1: the frames differ in size: prev is {first.shape}, next is {second.shape}")
    _refuse_unit_range({"prev": first, "next": second})
    single = first.ndim == 2
    if single:
        first, second = first[None], second[None]
    first, second = _one_dtype(first, second)
    flow = _backend(backend, params).flow_pairs(first, second, params=params, threads=_threads(threads))
    return flow[0] if single else flow


@overload
def tvl1_sequence(
    frames: np.ndarray, *, params: TVL1Params = ..., backend: Backend = ..., threads: int = ...
) -> np.ndarray: ...
@overload
def tvl1_sequence(
    frames: torch.Tensor, *, params: TVL1Params = ..., backend: Backend = ..., threads: int = ...
) -> torch.Tensor: ...
def tvl1_sequence(frames: Any, *, params: TVL1Params = _DEFAULTS, backend: Backend = "auto", threads: int = 1) -> Any:
    """Optical flow between the neighbours of a sequence; pyramids and gradients are computed once a frame.

    frames: (T, H, W), T ≥ 2, otherwise as for `tvl1`; returns float32 (T − 1, H, W, 2). Field t leads from frame t to
    t + 1, and has the bits of `tvl1(frames[t], frames[t + 1])`.
    """
    if _on_device({"frames": frames}):
        return _cuda(backend, {"frames": frames}).sequence_cuda(frames, params=params)
    checked = _checked("frames", frames, (3,))
    if len(checked) < 2:
        raise UsageError(f"TV-L1: a sequence needs two frames or more, this one has {len(checked)}")
    _refuse_unit_range({"frames": checked})
    return _backend(backend, params).flow_sequence(checked, params=params, threads=_threads(threads))


def resolve(backend: Backend, params: TVL1Params = _DEFAULTS) -> Literal["cpu", "cuda", "opencv"]:
    """The backend that `backend` stands for on this machine. Raises UsageError where it can't be used."""
    if backend not in get_args(Backend):
        raise UsageError(f"TV-L1: there is no backend {backend!r}; there are {', '.join(get_args(Backend))}")
    if backend == "auto":
        return "cuda" if not params.gamma and _module("cuda").unavailable() is None else "cpu"
    reason = None if backend == "cpu" else _module(backend).unavailable()
    if reason:
        raise UsageError(f"TV-L1: backend {backend!r} can't be used: {reason}")
    return backend


def _module(backend: str) -> ModuleType:
    return importlib.import_module(f"pipeline.flow.{backend}")  # each needs packages that the others do without


def _backend(backend: Backend, params: TVL1Params) -> ModuleType:
    return _module(resolve(backend, params))


def _on_device(named: dict[str, Any]) -> bool:
    """Whether the frames are torch tensors on a CUDA device (numpy arrays: no). All of them, or a sentence."""
    places = {name: str(frames.device) if hasattr(frames, "is_cuda") else "numpy" for name, frames in named.items()}
    if len(set(places.values())) > 1:
        raise UsageError(f"TV-L1: the frames lie in different places: {places}")
    place = next(iter(places.values()))
    if place != "numpy" and not place.startswith("cuda"):
        raise UsageError(f"TV-L1: tensors must be on a CUDA device, these are on {place}; pass .numpy() for the CPU")
    return place != "numpy"


def _cuda(backend: Backend, named: dict[str, Any]) -> ModuleType:
    if backend not in ("auto", "cuda"):
        raise UsageError(f"TV-L1: backend {backend!r} takes numpy arrays, {', '.join(named)} are tensors on a GPU")
    return _module("cuda")


def _checked(name: str, frames: Any, ndims: tuple[int, ...]) -> np.ndarray:
    """uint8 or float32 frames, of a size and with values that can be used."""
    if not isinstance(frames, np.ndarray):
        raise UsageError(f"TV-L1: {name} must be a numpy array or a CUDA tensor, not {type(frames).__name__}")
    if frames.ndim not in ndims:
        shapes = " or ".join({2: "(H, W)", 3: "(N, H, W)"}[ndim] for ndim in ndims)
        raise UsageError(f"TV-L1: {name} must be gray frames of shape {shapes}, not {frames.shape}")
    if min(frames.shape[-2:]) < MIN_SIDE_PX or max(frames.shape[-2:]) > MAX_SIDE_PX:
        raise UsageError(f"TV-L1: {name} must be {MIN_SIDE_PX} to {MAX_SIDE_PX} px a side, not {frames.shape[-2:]}")
    if frames.dtype == np.uint8:
        return frames
    if frames.dtype.kind != "f":
        raise UsageError(f"TV-L1: {name} must be uint8, or float in 0–255, not {frames.dtype}")
    if frames.size and not np.isfinite(frames).all():
        raise UsageError(f"TV-L1: {name} hold NaN or infinite values")
    low, high = (frames.min(), frames.max()) if frames.size else (0, 0)
    if low < 0 or high > 255:
        raise UsageError(f"TV-L1: {name} of floats must lie in 0–255, these reach from {low:g} to {high:g}")
    return frames.astype(np.float32)


def _refuse_unit_range(named: dict[str, np.ndarray]) -> None:
    """Floats that all lie in 0–1 are taken for such; a frame that is nearly black beside one that isn't is not."""
    high = max((frames.max() for frames in named.values() if frames.dtype.kind == "f" and frames.size), default=0)
    if 0 < high <= 1:
        names = " and ".join(named)
        raise UsageError(f"TV-L1: {names} of floats must lie in 0–255; these end at {high:g}: multiply them by 255")


def _one_dtype(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if first.dtype == second.dtype:
        return first, second
    return first.astype(np.float32), second.astype(np.float32)


def _threads(threads: int) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"TV-L1: threads must be a whole number from 1, not {threads!r}")
    return threads
