"""How much of the truth a metric's predictions speak of: said beside the metric, for a missing video looks like a bad
model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.annotation import BoxTable, SegmentTable


@dataclass(frozen=True, slots=True)
class Coverage:
    """videos: of the truth, with or without truth in them. missing: those of them without a prediction. elsewhere:
    videos with predictions that the truth does not have. num_predictions: all; num_elsewhere: those of `elsewhere`."""

    videos: int
    missing: tuple[str, ...]
    elsewhere: tuple[str, ...]
    num_predictions: int
    num_elsewhere: int

    def lines(self) -> list[str]:
        """A line on the truth's videos and one on the predictions."""
        share = f" ({(self.videos - len(self.missing)) / self.videos:.1%})" if self.videos else ""
        without = f"; without: {_some(self.missing)}" if self.missing else ""
        some = "all" if self.num_elsewhere == self.num_predictions else f"{self.num_elsewhere} of them"
        where = f", {some} in {len(self.elsewhere)} videos that the truth does not have: {_some(self.elsewhere)}"
        if not self.num_elsewhere:
            where = ", all in videos of the truth" if self.num_predictions else ""
        return [
            f"coverage: {self.videos - len(self.missing)} of {self.videos} videos of the truth{share} have predictions"
            + without,
            f"predictions: {self.num_predictions}{where}",
        ]


def coverage(truth: SegmentTable | BoxTable, predictions: SegmentTable | BoxTable) -> Coverage:
    """By the names of videos; names are in the order of the tables."""
    counts = np.bincount(predictions.video, minlength=len(predictions.videos))
    predicted = {name: int(num) for name, num in zip(predictions.videos, counts, strict=True) if num}
    known = set(truth.videos)
    elsewhere = tuple(name for name in predicted if name not in known)
    return Coverage(
        videos=len(truth.videos),
        missing=tuple(name for name in truth.videos if name not in predicted),
        elsewhere=elsewhere,
        num_predictions=len(predictions),
        num_elsewhere=sum(predicted[name] for name in elsewhere),
    )


def _some(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
