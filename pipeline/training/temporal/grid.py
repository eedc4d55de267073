"""Seconds and steps: features of a video at evenly spaced instants.

Step k of a video is the middle of its k-th window: first_s + k · step_s. Windows are told by where they start, because
the last ones may end early, with the video. Where windows of two clips start together the first is kept; where one is
missing inside a video (its clip was damaged) the step before it stands in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ReelmillError

SAME_S = 2e-3  # starts are exact to less than a millisecond
REGULAR_S = 1e-5  # how far from the commonest distance a regular one may be: times may have been rounded


@dataclass(frozen=True, slots=True)
class Grid:
    """Seconds of the steps of all videos of a product."""

    step_s: float
    window_s: float  # length of a window

    def steps(self, seconds: NDArray[np.float64], *, first_s: float) -> NDArray[np.float64]:
        """Seconds in steps, of a video whose step 0 is at `first_s`."""
        return (seconds - first_s) / self.step_s

    def seconds(self, steps: NDArray[np.float64], *, first_s: float) -> NDArray[np.float64]:
        """Steps in seconds."""
        return first_s + steps * self.step_s


def read_grid(windows: NDArray[np.float64], offsets: NDArray[np.int64], *, where: str) -> Grid:
    """The grid of all videos, from windows (clips, 3) of start_s, center_s, end_s; videos are runs between `offsets`.

    Raises ReelmillError where no video has two windows: nobody knows how far apart they are.
    """
    gaps_s = np.diff(windows[:, 0])
    gaps_s[offsets[1:-1] - 1] = 0  # between two videos
    gaps_s = gaps_s[gaps_s > SAME_S]
    if not len(gaps_s):
        raise ReelmillError(
            f"{where}: no video has two windows of features, so there is nothing to localize in; make clips with a "
            "shorter stride_s, or features with a window that slides inside them"
        )
    regular_s = gaps_s[np.abs(gaps_s - _commonest(gaps_s)) <= REGULAR_S]
    # thousands of these steps are added up in a long video, so their mean, whose error no sum makes large
    return Grid(step_s=round(float(regular_s.mean()), 9), window_s=_commonest(windows[:, 2] - windows[:, 0]))


def _commonest(values: NDArray[np.float64]) -> float:
    """The commonest value, to the microsecond."""
    found, counts = np.unique(values.round(6), return_counts=True)
    return float(found[counts.argmax()])


def rows_of_steps(start_s: NDArray[np.float64], grid: Grid, *, where: str, video_id: str) -> NDArray[np.int64]:
    """For each step of a video, the row of `start_s` (clips,) whose features stand for it.

    Raises ReelmillError where windows start off the grid.
    """
    steps = (start_s - start_s[0]) / grid.step_s
    places = steps.round().astype(np.int64)
    worst = int(np.abs(steps - places).argmax())
    if abs(steps[worst] - places[worst]) * grid.step_s > SAME_S:
        raise ReelmillError(
            f"{where}: the windows of video {video_id} are not {grid.step_s:g} s apart as those of the others are (one "
            f"starts at {start_s[worst]:.3f} s, the first at {start_s[0]:.3f} s); a head needs even steps: make the "
            "clips' stride_s a multiple of the windows' stride, and leave out other windows"
        )
    kept, first_rows = np.unique(places, return_index=True)
    return first_rows[np.searchsorted(kept, np.arange(kept[-1] + 1), side="right") - 1]
