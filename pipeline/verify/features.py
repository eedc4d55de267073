"""Features, extracted again as the card says: from the stored clips or flow, and end to end from the videos.

Rows that follow from the stored clips only show that the net, its weights and its preprocessing are the card's. That
the clips themselves are what their card says is shown by the videos alone.
"""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.stages.clip_inputs import Upstream
from pipeline.verify import clips, flow
from pipeline.verify.agreement import Key, Origin
from pipeline.verify.extract import Extractor
from pipeline.verify.job import Job, RemakeFunction, chosen, tell
from pipeline.verify.report import Comparison, NotCheckedError, ProductReport
from pipeline.verify.stored import Stored, require_version
from pipeline.verify.videos import Members, Remade, stored_samples
from schemas.errors import ReelmillError

REMAKERS: dict[str, RemakeFunction] = {"clips": clips.remake, "flow": flow.remake}
USUAL_COSINE = 0.9999


def check(job: Job, stored: Stored, report: ProductReport) -> None:
    """Extract the rows of clips again and compare. Raises NotCheckedError where that is not possible here."""
    require_version(stored)
    extractor = Extractor(job, stored)
    from_store = Origin(extractor.upstream.path, job.min_cosine)
    from_videos = Origin("videos", job.min_cosine)
    table = "_index/{unit:06d}.parquet" if extractor.settings.dense else "part-{unit:06d}.parquet"
    for unit, wanted in chosen(job, stored, table):
        if not extractor.settings.dense:
            _check_copy(job, stored, unit, report)
        rows = _stored_rows(job, stored, unit, set(wanted), dense=extractor.settings.dense)
        samples = _upstream_samples(job, extractor.upstream, unit, list(wanted), report)
        remade = _remade(job, extractor.upstream, unit, wanted, report)
        from_store.compare(rows, extractor.rows(samples.items(), report), report)
        others = []
        for clip_id, sample in remade.samples.items():
            if clip_id in samples and clips.same_frames(samples[clip_id], sample.members):
                from_videos.take_over(clip_id, from_store)  # equal inputs
            else:
                others.append((clip_id, {**sample.members, "json": json.dumps(dict(sample.facts)).encode()}))
        from_videos.compare(rows, extractor.rows(others, report), report)
    for origin in (from_store, from_videos):
        if origin.cosines:
            report.comparisons.append(Comparison(origin.name, "rows", "cosine", tuple(origin.cosines), extractor.words))
    _conclude(from_store, from_videos, extractor, report)


def _conclude(from_store: Origin, from_videos: Origin, extractor: Extractor, report: ProductReport) -> None:
    """What the rows that are off say together."""
    source = extractor.upstream.path
    if from_store.num_off:
        report.faults.append(
            "its rows were not made as its card says: preprocessing, weights, layer or options were others"
        )
    elif from_videos.num_off and from_store.cosines:
        report.faults.append(
            f"its rows follow from the stored {source}, but not from the videos: {source} was not made as its card says"
        )
    elif from_videos.num_off:
        report.faults.append(f"its rows were not made as its card and the card of {source} say")
    elif extractor.is_as_card and min([*from_store.cosines, *from_videos.cosines, 1.0]) < USUAL_COSINE:
        report.notes.append(
            f"in the card's own precision and on its kind of device cosines usually are above {USUAL_COSINE:g}; a "
            "detail of preprocessing that differs a little would look like this"
        )


# ---------------------------------------------------------------- what it is made from


def _upstream_samples(
    job: Job, upstream: Upstream, unit: int, wanted: list[str], report: ProductReport
) -> dict[str, Members]:
    """The stored samples of clips; none, and a sentence, where the shard is not there."""
    try:
        return dict(stored_samples(job.store, upstream.path, unit, wanted))
    except ReelmillError as error:
        report.unchecked.append(f"unit {unit:06d} from the stored {upstream.path}: {error}")
        return {}


def _remade(job: Job, upstream: Upstream, unit: int, wanted: dict[str, str], report: ProductReport) -> Remade:
    remake = REMAKERS[upstream.path.partition("/")[0]]
    try:
        remade = remake(job, upstream.path, unit, wanted)
    except NotCheckedError as error:
        report.unchecked.append(f"unit {unit:06d} end to end from the videos: {error}")
        return Remade()
    tell(remade, report)
    return remade


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
            by_sample[sample]: np.lib.format.read_array(BytesIO(members["npy"]), allow_pickle=False)
            for sample, members in stored_samples(job.store, stored.path, unit, list(by_sample))
        }
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise receipts.unreadable(path, stored.path, unit, error) from None


def _check_copy(job: Job, stored: Stored, unit: int, report: ProductReport) -> None:
    """The card that travels in a part's schema is the one that lies in the folder."""
    path = f"{stored.path}/part-{unit:06d}.parquet"
    try:
        with job.store.open(path) as file:
            copy = json.loads((pq.read_schema(file).metadata or {})[b"reelmill.card"])
        same = copy["fingerprint"] == stored.card.fingerprint
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError):
        same = False
    if not same:
        report.faults.append(f"{path} carries another card in its schema than _card.json")
