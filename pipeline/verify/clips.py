"""Clips, decoded again from their videos as the card says, and compared with the stored frames."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import receipts
from pipeline.stages.clips import index_row
from pipeline.store import Store
from pipeline.verify.job import Job, differences, note_unequal
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Stored
from pipeline.verify.videos import Members, Remade, Sample, require_alike, said
from pipeline.video.encode import decode_frames
from pipeline.video.guard import Decoder
from schemas.config import Clips
from schemas.errors import ReelmillError
from schemas.manifest import VideoRow

# Of a clip's pixels. Other builds of the decoders round by less; box average in place of bilinear gives 1.3 and more
# on UCF101 and HMDB51 (240 to 128 px), JPEG of quality 80 in place of 95 gives 2.4.
MEAN_LEVELS_MAX = 1.0
FACTS = ("start_s", "end_s", "frame_pts_s", "num_real_frames", "height_px", "width_px")


def remake(job: Job, source: str, unit: int, wanted: Mapping[str, str]) -> Remade:
    """The clips `wanted` (clip_id -> video_id) of a unit of the clips product `source`, from their videos."""
    spec = settings_of(job.store, source)

    def sampler(row: VideoRow, ids: set[str], decoder: Decoder) -> Generator[Sample, None, Any]:
        for clip in decoder.clips(row, spec):
            yield Sample(index_row(row, clip), clip.members)

    return job.videos.remake(source, unit, wanted, sampler)


def settings_of(store: Store, source: str) -> Clips:
    """What the card of a clips product says. Raises NotCheckedError where this version does not know it."""
    try:
        return Clips.model_validate(receipts.read_card(store, source).settings)
    except ValueError as error:
        raise NotCheckedError.of_settings(source, error) from None


def check(job: Job, stored: Stored, report: ProductReport) -> None:
    """Make clips again and compare. Raises NotCheckedError where that is not possible here."""
    found = differences(job, stored, report, remake=remake, compare=compare)
    if found:
        largest = max(difference.largest for difference in found)
        num_equal = sum(not difference.largest for difference in found)
        remark = f"{num_equal} of {len(found)} are equal"
        remark += f"; {largest} levels at most" if largest else ""
        report.comparisons.append(Comparison("videos", "clips", "levels", tuple(d.mean for d in found), remark))
        note_unequal(stored, report, len(found) - num_equal)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two clips' pixels, in levels."""

    mean: float
    largest: int

    @property
    def problem(self) -> str | None:
        """A sentence where rounding does not explain it."""
        if self.mean <= MEAN_LEVELS_MAX:
            return None
        return (
            f"its pixels are {self.mean:.2f} levels off on average, {self.largest} at most, and rounding explains "
            f"{MEAN_LEVELS_MAX:g}: it was not made as the card says (resize, filter, crop, encoding)"
        )


def compare(job: Job, source: str, stored: Members, again: Sample) -> Difference:
    """A stored clip with the one that its video gives. Raises ReelmillError where their facts or sizes differ."""
    require_alike(said(stored), again.facts, (*FACTS, "label_ids") if job.inputs.has_manifest else FACTS)
    return difference(stored, again.members, settings_of(job.store, source))


def same_frames(stored: Members, remade: Members) -> bool:
    """Whether two samples hold the same bytes beside what is said of them."""
    return {name: data for name, data in stored.items() if name not in ("json", "cls")} == remade


def difference(stored: Members, remade: Members, spec: Clips) -> Difference:
    """Of what is decoded from two samples. Raises ReelmillError where their sizes differ, or one is damaged."""
    if same_frames(stored, remade):
        return Difference(0.0, 0)
    a, b = (decode_frames(members, spec.encoding).astype(np.int16) for members in (stored, remade))
    if a.shape != b.shape:
        raise ReelmillError(f"it holds frames of {a.shape}, and its video gives {b.shape} (T, height, width, colours)")
    off = np.abs(a - b)
    return Difference(float(off.mean()), int(off.max()))
