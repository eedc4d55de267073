"""The regular windows of a features product, in the terms of the tools that read features.

    row 0   |----- length_s -----|
    row 1   |-- step_s --|----- length_s -----|
    row 2   |-- step_s --|-- step_s --|----- length_s -----|

Readers count frames, not seconds: row t is centred on (t * feature_stride + offset_frames) / fps, and offset_frames is
half of the snippet. OpenTAD takes whole numbers only, so the frames of a Clock are short enough for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.graph import Plan, Product
from pipeline.video.sample import exact
from schemas.config import Clips, Flow
from schemas.errors import UsageError

SAME_S = 1e-6  # windows are cut in whole microseconds at the finest
MAX_PARTS = 1000  # of a frame, that a step which no setting names may be counted in


@dataclass(frozen=True, slots=True)
class Clock:
    """Frames that a step is a whole number of, and half a snippet, too."""

    fps: Fraction
    feature_stride: int
    snippet_frames: int  # even

    @property
    def offset_frames(self) -> int:
        return self.snippet_frames // 2

    def num_frames(self, duration_s: float) -> int:
        """Frames that have begun before `duration_s`."""
        return math.ceil((duration_s - SAME_S) * self.fps)

    def duration_s(self, num_frames: int) -> float:
        """How long so many frames last: never less, so that int(duration * fps) is `num_frames` again."""
        fps, duration_s = float(self.fps), float(num_frames / self.fps)
        while int(duration_s * fps) < num_frames:
            duration_s = math.nextafter(duration_s, math.inf)
        return duration_s


@dataclass(frozen=True, slots=True)
class Grid:
    """Row t of each video is of the window [t * step_s, t * step_s + length_s), from the first row's start on."""

    step_s: Fraction
    length_s: Fraction
    fps: Fraction  # of the clips' frames

    def clock(self) -> Clock:
        """That of the clips' frames where step and half a window are whole numbers of them, else a finer one."""
        step, half = self.step_s * self.fps, self.length_s * self.fps / 2
        parts = math.lcm(step.denominator, half.denominator)
        return Clock(self.fps * parts, int(step * parts), int(2 * half * parts))

    def num_starts(self, duration_s: float) -> int:
        """Windows that begin before `duration_s`: the number of rows where each of them gives one."""
        return max(1, math.ceil((duration_s - SAME_S) / self.step_s))


def clips_of(plan: Plan, product: Product) -> Clips:
    """The settings of the clips that a features product looks into. Raises UsageError where they follow no step."""
    path, _ = _upstream(plan, product)
    clips = Clips.model_validate(plan.product(path).settings)
    if clips.windows != "stride":
        raise UsageError(
            f"--product {product.path}: {path} has windows: {clips.windows}, and readers of features place row t at t "
            "times a fixed stride; make features of clips with windows: stride"
        )
    return clips


def configured_grid(plan: Plan, product: Product) -> Grid:
    """The grid that the settings of a features product ask for: of its clips, or of the windows inside them."""
    path, flow = _upstream(plan, product)
    clips = Clips.model_validate(plan.product(path).settings)
    window = product.settings.get("window")
    if window is None:
        fps = exact(clips.fps)
        length_s = clips.frames / fps
        return Grid(length_s if clips.stride_s is None else exact(clips.stride_s), length_s, fps)
    fps = exact(flow.rate_fps(clips) if flow else clips.fps)
    return Grid(window["stride"] / fps, window["frames"] / fps, fps)


def stored_grid(configured: Grid, start_s: NDArray[np.float64], end_s: NDArray[np.float64]) -> Grid:
    """The grid of a video's rows, ascending (T,) seconds with T > 1: what is stored decides.

    The settings make its numbers exact where they say the same.
    """
    return Grid(
        _exactly(float(np.diff(start_s).min()), configured.step_s, configured.fps),
        _exactly(float((end_s - start_s).max()), configured.length_s, configured.fps),
        configured.fps,
    )


def _upstream(plan: Plan, product: Product) -> tuple[str, Flow | None]:
    """The path of the clips that a features product is made from, and the flow between them, if any."""
    path: str = product.settings["from"]
    if not path.startswith("flow/"):
        return path, None
    flow = Flow.model_validate(plan.product(path).settings)
    return f"clips/{flow.clips}", flow


def _exactly(found_s: float, configured_s: Fraction, fps: Fraction) -> Fraction:
    if abs(found_s - configured_s) <= SAME_S:
        return configured_s
    return Fraction(found_s * fps).limit_denominator(MAX_PARTS) / fps
