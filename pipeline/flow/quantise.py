"""Flow as uint8 and back, by the rule of denseflow and the two-stream networks, and what that costs.

A bound of b px covers [-b, b] with 256 levels: q = round(255 (v + b) / 2b), clipped to 0..255. Zero flow is 128, the
even neighbour of 127.5, so it comes back as b / 255 px (0.08 px at the usual bound of 20) and not as 0: whoever needs
still pixels to be 0 keeps the flow as floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.errors import ReelmillError, UsageError

BOUND_PX = 20.0
LEVELS = 255
CHUNK = 1 << 15  # values worked on at once: a double copy of them stays in the cache, whatever the flow's size


@dataclass(frozen=True, kw_only=True)
class QuantisationLoss:
    """What storing flow as uint8 lost.

    A bound that is too small shows in `saturated`, one that is too large in `rmse_px`.
    """

    saturated: float  # share of the components (u and v count apart) that lie outside [-bound, bound]
    rmse_px: float  # over all components, the saturated ones included
    max_abs_px: float  # largest |component| of the flow itself: the bound that would cut nothing


def quantise(flow: np.ndarray, *, bound: float = BOUND_PX) -> np.ndarray:
    """The uint8 levels of `flow` (px, floating point, any shape), in an array of the same shape.

    The arithmetic is denseflow's own (doubles; halves go to the even level, as OpenCV's cvRound rounds), so equal flow
    gives equal bytes. Raises UsageError for a bound that is not a finite number above 0 and for flow that is no
    floating-point array, ReelmillError for flow that holds NaN or infinity.
    """
    bound = _checked_bound(bound)
    levels = np.empty(_checked_flow(flow).shape, np.uint8)
    for values, out in _chunks(flow, levels, access="writeonly"):
        values += bound
        values *= LEVELS
        values /= 2 * bound
        np.rint(values, out=values)
        np.clip(values, 0, LEVELS, out=values)
        out[...] = values
    return levels


def dequantise(levels: np.ndarray, *, bound: float) -> np.ndarray:
    """The float32 flow (px) that uint8 `levels` of any shape stand for: 2b q / 255 - b, the middle of each level.

    Raises UsageError for a bound that is not a finite number above 0 and for levels that are not uint8.
    """
    bound = _checked_bound(bound)
    return _meanings(bound).astype(np.float32)[_checked_levels(levels)]


def quantisation_report(flow: np.ndarray, levels: np.ndarray, *, bound: float) -> QuantisationLoss:
    """What is lost when `levels` (uint8) stand for `flow` (px, floating point, same shape).

    The levels may be those of `quantise` or what came back from a JPEG of them. Raises as `quantise` and `dequantise`
    do, and UsageError where the shapes differ or nothing is in them.
    """
    bound = _checked_bound(bound)
    if _checked_flow(flow).shape != _checked_levels(levels).shape or not flow.size:
        raise UsageError(f"flow of shape {flow.shape} and levels of shape {levels.shape} can't be compared")
    meanings = _meanings(bound)
    saturated, largest, squares = 0, 0.0, []
    for values, stored in _chunks(flow, levels, access="readonly"):
        largest = max(largest, float(values.max()), -float(values.min()))
        saturated += int(np.count_nonzero((values > bound) | (values < -bound)))
        values -= meanings[stored]
        squares.append(float(np.square(values, out=values).sum()))
    return QuantisationLoss(
        saturated=saturated / flow.size, rmse_px=math.sqrt(math.fsum(squares) / flow.size), max_abs_px=largest
    )


def _meanings(bound: float) -> np.ndarray:
    """The flow (px) that each of the 256 levels stands for, in doubles."""
    return np.arange(LEVELS + 1) * (2 * bound) / LEVELS - bound


def _chunks(
    flow: np.ndarray, levels: np.ndarray, *, access: Literal["readonly", "writeonly"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The flow as doubles that may be overwritten, CHUNK at a time, beside the levels of the same places."""
    steps = np.nditer(
        [flow, levels],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"], [access]],
        order="C",
        buffersize=CHUNK,
    )
    with steps:
        for values, out in steps:
            doubles = values.astype(np.float64)
            if not np.isfinite(doubles).all():
                raise ReelmillError(
                    "flow holds NaN or infinity, which no level stands for; leave those fields out or fill them first"
                )
            yield doubles, out


def _checked_bound(bound: float) -> float:
    if (
        isinstance(bound, bool)
        or not isinstance(bound, (int, float, np.integer, np.floating))
        or not 0 < 2 * bound < math.inf
    ):
        raise UsageError(f"the bound of quantised flow must be a finite number of px above 0, not {bound!r}")
    return float(bound)


def _checked_flow(flow: np.ndarray) -> np.ndarray:
    if not isinstance(flow, np.ndarray) or not np.issubdtype(flow.dtype, np.floating):
        raise UsageError(f"flow must be a floating-point numpy array in px, not {_kind(flow)}")
    return flow


def _checked_levels(levels: np.ndarray) -> np.ndarray:
    if not isinstance(levels, np.ndarray) or levels.dtype != np.uint8:
        raise UsageError(f"quantised flow must be a uint8 numpy array, not {_kind(levels)}")
    return levels


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
