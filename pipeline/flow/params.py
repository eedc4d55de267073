"""The parameters of TV-L1, with the names and defaults of OpenCV's `DualTVL1OpticalFlow`."""

import math
from dataclasses import dataclass, fields

from schemas.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TVL1Params:
    """Parameters of Zach, Pock and Bischof's duality-based TV-L1 (2007), as OpenCV implements it.

    Frames are taken in the range 0–255; flow is in pixels a frame interval.
    """

    tau: float = 0.25  # time step of the dual update
    lambda_: float = 0.15  # weight of the data term: smaller is smoother
    theta: float = 0.3  # tightness of the coupling between u and v
    num_scales: int = 5  # levels of the pyramid; fewer where a level would be under 16 px
    num_warps: int = 5  # warps of the second frame per level
    epsilon: float = 0.01  # px; a warp ends once the mean squared update is at most epsilon²
    inner_iterations: int = 30  # iterations between two median filters
    outer_iterations: int = 10  # median filters per warp, at most
    scale_step: float = 0.8  # size of a level relative to the next finer one
    gamma: float = 0.0  # weight of an illumination term; 0 leaves it out
    median_filtering: int = 5  # side of the median filter in px: 1 (none), 3 or 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f"TV-L1: {field.name} must be a finite number, not {value!r}")
            if field.type is int and not isinstance(value, int):
                raise UsageError(f"TV-L1: {field.name} must be a whole number, not {value!r}")
        for name in ("tau", "lambda_", "theta", "epsilon"):
            if getattr(self, name) <= 0:
                raise UsageError(f"TV-L1: {name} must be above 0, not {getattr(self, name)}")
        for name in ("num_scales", "num_warps", "inner_iterations", "outer_iterations"):
            if getattr(self, name) < 1:
                raise UsageError(f"TV-L1: {name} must be 1 or more, not {getattr(self, name)}")
        if not 0 < self.scale_step < 1:
            raise UsageError(f"TV-L1: scale_step must lie between 0 and 1, not {self.scale_step}")
        if self.gamma < 0:
            raise UsageError(f"TV-L1: gamma must be 0 or more, not {self.gamma}")
        if self.median_filtering not in (1, 3, 5):
            raise UsageError(f"TV-L1: median_filtering must be 1, 3 or 5, not {self.median_filtering}")


MIN_SIDE_PX = 16  # OpenCV's pyramid ends before a side gets shorter
MAX_SIDE_PX = 32766  # OpenCV's remap takes no more; and the cpu backend's 32-bit indices reach as far as that


def level_sizes(height: int, width: int, params: TVL1Params) -> list[tuple[int, int]]:
    """(height, width) of each level of the pyramid, finest first, rounded as OpenCV rounds: halves to even."""
    sizes = [(height, width)]
    while len(sizes) < params.num_scales:
        height, width = round(height * params.scale_step), round(width * params.scale_step)
        if min(height, width) < MIN_SIDE_PX:
            break
        sizes.append((height, width))
    return sizes
