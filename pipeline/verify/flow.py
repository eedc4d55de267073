"""Flow, computed again from the videos as the card says, and compared with the stored fields in px."""

from __future__ import annotations

from collections.abc import Generator, Mapping
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
from pipeline.verify.job import Job, pairs
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Stored, require_version
from pipeline.verify.videos import Remade, Sample, require_alike, said
from pipeline.video.guard import Decoder
from schemas.config import Clips, Flow
from schemas.errors import ReelmillError, UsageError
from schemas.manifest import VideoRow

# one backend's TV-L1 against another's: most components agree to a small part of a pixel, a few where things move
# apart do not; and two levels more where flow is quantised
MEDIAN_PX_MAX, P99_PX_MAX = 0.05, 1.0
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
    require_version(stored)
    flow = settings_of(job.store, stored.path)
    level_px = 0.0 if flow.encoding == "npy" else 2 * flow.bound / 255
    median_max, p99_max = MEDIAN_PX_MAX + level_px, P99_PX_MAX + 2 * level_px
    medians: list[float] = []
    p99s: list[float] = []
    for clip_id, members, again in pairs(job, stored, report, remake=remake):
        try:
            require_alike(said(members), again.facts, FACTS)
            off = np.abs(decode_flow(members, flow) - decode_flow(again.members, flow))  # (T, H, W, 2) px
        except (ReelmillError, ValueError) as error:  # ValueError: of other shapes
            report.faults.append(f"flow of clip {clip_id}: {error}")
            continue
        medians.append(float(np.median(off)))
        p99s.append(float(np.percentile(off, 99)))
        if medians[-1] > median_max or p99s[-1] > p99_max:
            report.faults.append(
                f"flow of clip {clip_id}: its components are {medians[-1]:.2f} px off in the median and {p99s[-1]:.2f} "
                f"px at 99 %, and backends differ by {median_max:.2f} and {p99_max:.2f} at most: it was not computed "
                "as the card says"
            )
    if p99s:
        num_equal = sum(p99 == 0 for p99 in p99s)
        remark = f"99 % of components; median {max(medians):.3f} px at most; {num_equal} of {len(p99s)} are equal"
        report.comparisons.append(Comparison("videos", "clips", "px", tuple(p99s), remark))
