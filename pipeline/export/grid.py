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
    """The settings of the clips whose windows a features product has. Raises UsageError where they follow no step."""
    source = plan.product(product.settings["from"])
    if source.kind == "flow":
        source = plan.product(f"clips/{Flow.model_validate(source.settings).clips}")
    clips = Clips.model_validate(source.settings)
    if clips.windows != "stride":
        raise UsageError(
            f"--product {product.path}: {source.path} has windows: {clips.windows}, and readers of features place row "
            "t at t times a fixed stride; make features of clips with windows: stride"
        )
    return clips


def grid_of(clips: Clips, track: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None) -> Grid:
    """The grid of a video's rows: start_s and end_s, ascending (T,) with T > 1. None: as the clips' settings have it.

    Features may slide inside the clips, so what is stored decides; the settings make its numbers exact.
    """
    fps = exact(clips.fps)
    length_s = clips.frames / fps
    step_s = length_s if clips.stride_s is None else exact(clips.stride_s)
    if track is not None:
        start_s, end_s = track
        step_s = _exactly(float(np.diff(start_s).min()), step_s, fps)
        length_s = _exactly(float((end_s - start_s).max()), length_s, fps)
    return Grid(step_s=step_s, length_s=length_s, fps=fps)


def _exactly(found_s: float, configured_s: Fraction, fps: Fraction) -> Fraction:
    if abs(found_s - configured_s) <= SAME_S:
        return configured_s
    return Fraction(found_s * fps).limit_denominator(MAX_PARTS) / fps
