"""Features, extracted again as the card says: from the stored clips or flow, and end to end from the videos.

Rows that follow from the stored clips only show that the net, its weights and its preprocessing are the card's. That
the clips themselves are what their card says is shown by the videos alone.
"""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.npy import from_npy
from pipeline.verify import clips, flow
from pipeline.verify.agreement import Key, Origin
from pipeline.verify.extract import Extractor
from pipeline.verify.job import Job, chosen, tell
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport, numbers
from pipeline.verify.stored import Stored, require_version
from pipeline.verify.videos import Members, Remade, Sample, stored_samples
from schemas.errors import ReelmillError

UPSTREAM: dict[str, ModuleType] = {"clips": clips, "flow": flow}
USUAL_COSINE = {"fp32": 0.999999, "bf16": 0.9999, "fp16": 0.9999}  # where precision and kind of device are the card's


def check(job: Job, stored: Stored, report: ProductReport) -> None:
    """Extract the rows of clips again and compare. Raises NotCheckedError where that is not possible here."""
    require_version(stored)
    extractor = Extractor(job, stored)
    dense, upstream = extractor.settings.dense, extractor.upstream.path
    from_store, from_videos = Origin(upstream, job.min_cosine), Origin("videos", job.min_cosine)
    of_upstream: list[str] = []
    other_card: list[int] = []
    for unit, wanted in chosen(job, stored, "_index/{unit:06d}.parquet" if dense else "part-{unit:06d}.parquet"):
        if not dense and not _carries_card(job, stored, unit):
            other_card.append(unit)
        rows = _stored_rows(job, stored, unit, set(wanted), dense=dense)
        samples = _upstream_samples(job, upstream, unit, list(wanted), report)
        remade = _remade(job, upstream, unit, wanted, report)
        from_store.compare(rows, extractor.rows(samples.items(), report))
        others = []
        for clip_id, again in remade.samples.items():
            if clip_id in samples:
                of_upstream += _problem(job, upstream, clip_id, samples[clip_id], again)
                if clips.same_frames(samples[clip_id], again.members):
                    from_videos.take_over(clip_id, from_store)  # equal inputs
                    continue
            others.append((clip_id, {**again.members, "json": json.dumps(dict(again.facts)).encode()}))
        from_videos.compare(rows, extractor.rows(others, report))
    for origin in (from_store, from_videos):
        if origin.cosines:
            compared = Comparison(origin.name, "rows", "cosine", tuple(origin.cosines), extractor.words)
            report.comparisons.append(compared)
    if other_card:
        report.faults.append(f"its parts carry another card in their schema than _card.json: {numbers(other_card)}")
    _conclude(from_store, from_videos, of_upstream, extractor, report)


def _conclude(
    from_store: Origin, from_videos: Origin, of_upstream: list[str], extractor: Extractor, report: ProductReport
) -> None:
    """What all comparisons say together, and then each of them."""
    source = extractor.upstream.path
    if from_store.num_off:
        report.faults.append(
            "its rows were not made as its card says: preprocessing, weights, layer or options were others"
        )
    elif of_upstream or (from_videos.num_off and from_store.cosines):
        report.faults.append(
            f"its rows follow from the stored {source}, but not from the videos: {source} was not made as its card says"
        )
    elif from_videos.num_off:
        report.faults.append(f"its rows were not made as its card and the card of {source} say")
    report.faults += [*from_store.faults, *from_videos.faults, *of_upstream]
    usual = USUAL_COSINE[extractor.precision.used]
    if extractor.is_as_card and not report.faults and min([*from_store.cosines, *from_videos.cosines, 1.0]) < usual:
        report.notes.append(
            f"{extractor.precision.used} on the card's kind of device usually gives cosines above {usual:g}; a detail "
            "of preprocessing that differs a little would look like this"
        )


# ---------------------------------------------------------------- what it is made from


def _upstream_samples(
    job: Job, upstream: str, unit: int, wanted: list[str], report: ProductReport
) -> dict[str, Members]:
    """The stored samples of clips; none, and a sentence, where the shard is not there."""
    try:
        return dict(stored_samples(job.store, upstream, unit, wanted))
    except ReelmillError as error:
        report.unchecked.append(f"unit {unit:06d} from the stored {upstream}: {error}")
        return {}


def _remade(job: Job, upstream: str, unit: int, wanted: dict[str, str], report: ProductReport) -> Remade:
    try:
        remade: Remade = _module(upstream).remake(job, upstream, unit, wanted)
    except NotCheckedError as error:
        report.unchecked.append(f"unit {unit:06d} end to end from the videos: {error}")
        return Remade()
    tell(remade, report)
    return remade


def _problem(job: Job, upstream: str, clip_id: str, stored: Members, again: Sample) -> list[str]:
    """A sentence where a stored sample is not what its video gives."""
    try:
        problem = _module(upstream).compare(job, upstream, stored, again).problem
    except ReelmillError as error:
        problem = str(error)
    return [f"clip {clip_id} of {upstream}: {problem}"] if problem else []


def _module(upstream: str) -> ModuleType:
    return UPSTREAM[upstream.partition("/")[0]]


# ---------------------------------------------------------------- what is stored


def _stored_rows(job: Job, stored: Stored, unit: int, clip_ids: set[str], *, dense: bool) -> dict[Key, np.ndarray]:
    """The stored rows of clips. Raises ReelmillError where a file is damaged."""
    path = f"{stored.path}/_index/{unit:06d}.parquet" if dense else f"{stored.path}/part-{unit:06d}.parquet"
    last = "key" if dense else "embedding"
    only = [("clip_id", "in", sorted(clip_ids))]
    try:
        with job.store.open(path) as file:
            table = pq.read_table(file, columns=["clip_id", "view", "start_s", last], filters=only)
        keys: list[Key] = list(zip(*(table[name].to_pylist() for name in ("clip_id", "view", "start_s")), strict=True))
        if not dense:
            return {key: np.asarray(row, np.float32) for key, row in zip(keys, table[last].to_pylist(), strict=True)}
        by_sample = dict(zip(table[last].to_pylist(), keys, strict=True))
        return {
            by_sample[sample]: from_npy(members["npy"])
            for sample, members in stored_samples(job.store, stored.path, unit, list(by_sample))
        }
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise receipts.unreadable(path, stored.path, unit, error) from None


def _carries_card(job: Job, stored: Stored, unit: int) -> bool:
    """Whether the card that travels in a part's schema is the one that lies in the folder."""
    try:
        with job.store.open(f"{stored.path}/part-{unit:06d}.parquet") as file:
            copy = json.loads((pq.read_schema(file).metadata or {})[b"reelmill.card"])
        return bool(copy["fingerprint"] == stored.card.fingerprint)
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError):
        return False
