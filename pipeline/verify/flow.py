"""Flow, computed again from the videos as the card says, and compared with the stored fields in px."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline import receipts
from pipeline.flow import TVL1Params, tvl1_sequence
from pipeline.flow.encode import decode_flow
from pipeline.flow.tvl1 import Backend, resolve
from pipeline.stages.flow_samples import FlowSampler
from pipeline.store import Store
from pipeline.threads import num_cores
from pipeline.verify import clips
from pipeline.verify.job import Job, differences, note_unequal
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Stored
from pipeline.verify.videos import Members, Remade, Sample, require_alike, said
from pipeline.video.guard import Decoder
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError, UsageError
from schemas.manifest import VideoRow

# All backends compute the same flow; what other builds of the decoders round otherwise moves it a little, and more
# where motion is long: noise of one level in a tenth of the pixels gave 0.01 px in the median, and at 99 % of the
# components 0.16 px where the longest motions are 1 to 3 px, 1 px where they are 9. Quantising adds levels.
MEDIAN_PX_MAX, P99_PX_MAX, P99_OF_MOTION_MAX = 0.02, 0.1, 0.1
FACTS = ("start_s", "end_s", "from_pts_s", "to_pts_s", "num_real_fields", "height_px", "width_px", "bound_px")


def remake(job: Job, source: str, unit: int, wanted: Mapping[str, str]) -> Remade:
    """The flow `wanted` (clip_id -> video_id) of a unit of the flow product `source`, from their videos."""
    flow = settings_of(job.store, source)
    spec = _windows(job.store, flow)
    params = TVL1Params(**flow.params.model_dump())
    solve = partial(tvl1_sequence, params=params, backend=_backend(job.store, source, params), threads=num_cores())
    flow_sampler = FlowSampler(flow, spec, solve=solve)

    def sampler(row: VideoRow, ids: set[str], decoder: Decoder) -> Generator[Sample, None, Any]:
        gray = decoder.clips(row, flow.sampling(spec), grid=flow_sampler.grid)
        for sample in flow_sampler.samples(row.video_id, gray, expected=ids):
            yield Sample(sample.index_row, sample.members)

    return job.videos.remake(source, unit, wanted, sampler)


def settings_of(store: Store, source: str) -> Flow:
    """What the card of a flow product says. Raises NotCheckedError where this version does not know it."""
    try:
        return Flow.model_validate(receipts.read_card(store, source).settings)
    except ValueError as error:
        raise NotCheckedError.of_settings(source, error) from None


def _windows(store: Store, flow: Flow) -> Clips:
    source = f"clips/{flow.clips}"
    try:
        return clips.settings_of(store, source)
    except NotCheckedError:
        raise
    except ReelmillError:
        raise NotCheckedError(f"{source} is not beside it, and its card says which windows these are") from None


def _backend(store: Store, source: str, params: TVL1Params) -> Backend:
    """The backend of the card, which gives its bits, or what there is on this machine."""
    try:
        return resolve(receipts.read_card(store, source).details["backend"]["used"], params)
    except (KeyError, TypeError, UsageError):
        return resolve("auto", params)


def check(job: Job, stored: Stored, report: ProductReport) -> None:
    """Compute the flow of clips again and compare. Raises NotCheckedError where that is not possible here."""
    found = differences(job, stored, report, remake=remake, compare=compare)
    if found:
        num_equal = sum(not difference.largest_px for difference in found)
        median_px = max(difference.median_px for difference in found)
        remark = f"{num_equal} of {len(found)} are equal; 99 % of components; median {median_px:.3f} px at most"
        report.comparisons.append(Comparison("videos", "clips", "px", tuple(d.p99_px for d in found), remark))
        note_unequal(stored, report, len(found) - num_equal)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two clips' flow: of the absolute differences of all components, in px."""

    median_px: float
    p99_px: float
    largest_px: float
    motion_px: float  # 99 % of the stored components are this long, or shorter
    level_px: float  # what one stored level stands for

    @property
    def problem(self) -> str | None:
        """A sentence where another backend does not explain it."""
        median_max = MEDIAN_PX_MAX + self.level_px
        p99_max = P99_PX_MAX + P99_OF_MOTION_MAX * self.motion_px + 2 * self.level_px
        if self.median_px <= median_max and self.p99_px <= p99_max:
            return None
        return (
            f"its components are {self.median_px:.2f} px off in the median and {self.p99_px:.2f} px at 99 %, and "
            f"rounding explains {median_max:.2f} and {p99_max:.2f}: it was not computed as the card says"
        )


def compare(job: Job, source: str, stored: Members, again: Sample) -> Difference:
    """Stored flow with what the video gives. Raises ReelmillError where their facts or sizes differ."""
    flow = settings_of(job.store, source)
    require_alike(said(stored), again.facts, FACTS)
    px, px_again = (decode_flow(members, flow) for members in (stored, again.members))  # (T, H, W, 2)
    if px.shape != px_again.shape:
        raise ReelmillError(
            f"it holds fields of {px.shape}, and its video gives {px_again.shape} (T, height, width, 2)"
        )
    off = np.abs(px - px_again)
    level_px = 0.0 if flow.encoding == "npy" else 2 * flow.bound / 255
    return Difference(
        median_px=float(np.median(off)),
        p99_px=float(np.percentile(off, 99)),
        largest_px=float(off.max()),
        motion_px=float(np.percentile(np.abs(px), 99)),
        level_px=level_px,
    )
