"""How many rows a video's features have for the tool that reads them.

valid    a row a window that lies whole in the video: of N frames floor((N - snippet) / stride) + 1
padded   a row a window that starts in the video: ceil(N / stride). A product that pads its tail holds the first of
         those that reach beyond the end; the others repeat it
L        L rows at even distances: row j is at (j + 0.5) * duration / L, between the rows that lie around that
         second; where several rows fall to one, it is their mean. What was seen of a tail is taken where it was
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.export.feature_sequences import FeatureVideo
from pipeline.export.grid import Grid
from schemas.errors import UsageError

Rule = Literal["valid", "padded", "fixed"]


@dataclass(frozen=True, slots=True)
class Length:
    rule: Rule
    num_rows: int | None = None  # fixed

    def __str__(self) -> str:
        return str(self.num_rows) if self.rule == "fixed" else self.rule

    @classmethod
    def parse(cls, text: str) -> Length:
        """Raises UsageError for anything but "valid", "padded" and a count."""
        if text == "valid":
            return cls("valid")
        if text == "padded":
            return cls("padded")
        if text.isascii() and text.isdigit() and int(text) > 0:
            return cls("fixed", int(text))
        raise UsageError(f"--length {text}: give valid, padded or the number of rows that each video is brought to")

    def of(self, video: FeatureVideo, grid: Grid) -> int:
        """The number of rows of a video."""
        if self.rule == "fixed":
            assert self.num_rows is not None, "a fixed length has its number"
            return self.num_rows
        return video.num_whole if self.rule == "valid" else max(video.num_rows, grid.num_starts(video.end_s))

    def fit(
        self, features: NDArray[np.float32], video: FeatureVideo, grid: Grid, *, duration_s: float
    ) -> NDArray[np.float32]:
        """The stored rows (T, D) of a video brought to its number of rows, (`of(video)`, D) float32."""
        num_rows = self.of(video, grid)
        if self.rule == "fixed":
            return _resampled(
                features, video.center_s, duration_s=duration_s, num_rows=num_rows, step_s=float(grid.step_s)
            )
        if num_rows <= len(features):
            return features[:num_rows]
        return np.concatenate([features, np.repeat(features[-1:], num_rows - len(features), axis=0)])


def _resampled(
    features: NDArray[np.float32], center_s: NDArray[np.float64], *, duration_s: float, num_rows: int, step_s: float
) -> NDArray[np.float32]:
    """(num_rows, D): straight lines between the rows at `center_s`, and flat ones before the first and after the last.

    Each new row is the mean of points that are no further apart than the old rows: of one, at its middle, where there
    are more new rows than old.
    """
    if len(features) == 1:
        return np.repeat(features, num_rows, axis=0)
    num_points = max(1, math.ceil(duration_s / num_rows / step_s - 1e-9))
    points_s = (np.arange(num_rows * num_points) + 0.5) * (duration_s / (num_rows * num_points))
    after = np.clip(np.searchsorted(center_s, points_s), 1, len(center_s) - 1)
    left_s, right_s = center_s[after - 1], center_s[after]
    share = np.clip((points_s - left_s) / (right_s - left_s), 0, 1)[:, None]
    points = features[after - 1] * (1 - share) + features[after] * share  # (num_rows * num_points, D) float64
    return points.reshape(num_rows, num_points, -1).mean(axis=1).astype(np.float32)
