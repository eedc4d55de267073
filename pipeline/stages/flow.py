"""The flow stage: TV-L1 flow of a unit's clips to one WebDataset shard, its index and its ledger.

    flow-000000.tar           KEY.x.000.jpg KEY.y.000.jpg KEY.x.001.jpg … (or .png; or KEY.npy), KEY.cls, KEY.json
    _index/000000.parquet     one row per clip: schemas.flow
    _ledger/000000.parquet    one row per video: ok, partial, failed or filtered

The windows are those of the clips product, whose index says which there are; the frames are the video's own, decoded
again, because flow of what JPEG left over is another flow. The decoder process makes them gray and small; the flow is
computed here, in the worker, where no limit of a video's decoding counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.flow import TVL1Params, tvl1_sequence
from pipeline.flow.tvl1 import Backend, resolve
from pipeline.graph import Product, Unit, unit_fingerprint
from pipeline.meter import Meter
from pipeline.shards import ShardWriter
from pipeline.stages.flow_card import describe
from pipeline.stages.flow_samples import FlowSample, FlowSampler
from pipeline.stages.spool import Spool, try_twice
from pipeline.store import Store
from pipeline.units import unit_rows
from pipeline.video.errors import VideoError
from pipeline.video.guard import Decoder
from pipeline.video.wire import Outcome
from schemas.config import Clips, Flow, Limits
from schemas.errors import ReelmillError, UsageError
from schemas.flow import FLOW_INDEX_SCHEMA
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow
from schemas.receipt import Receipt

__all__ = ["FlowStage", "describe", "open_stage"]


class FlowStage:
    """The stage as a worker holds it: with a decoder process that lives from unit to unit."""

    def __init__(self, product: Product, store: Store, decoder: Decoder) -> None:
        self._product, self._store, self.decoder = product, store, decoder
        self.meter = Meter(child=lambda: decoder.pid)
        self._flow = Flow.model_validate(product.settings)
        self._source = f"clips/{self._flow.clips}"
        self._backend = _backend_of(product, self._flow, store)

    def __call__(self, unit: Unit) -> Receipt:
        """Make one unit. Raises ReelmillError where the clips of this unit are missing or stale, StorageError where
        the output can't be written; what is wrong with a video becomes its ledger row."""
        with self.meter.reading():
            clips = _ClipsOfUnit(self._store, self._source, unit, self._product.upstream[self._source])
            rows = unit_rows(self._store, unit)
        videos = _Videos(self._flow, clips, self.decoder, self._backend, self.meter)
        ledger: list[LedgerRow] = []
        index: list[dict[str, Any]] = []
        with receipts.begin(self._store, self._product, unit) as writer:
            with ShardWriter(self.meter.output(writer.file(f"flow-{unit.index:06d}.tar"))) as shard:
                for row in rows:
                    with Spool(self._store, self._product.path) as spool:
                        ledger.append(videos.make(row, spool))
                        for header, blobs in spool.messages():
                            sample = FlowSample.from_message(header, blobs)
                            index.append(sample.index_row)
                            self._cover(sample.index_row)
                            shard.add(sample.index_row["clip_id"], {**sample.members, **self._facts(sample.index_row)})
            self.meter.ledger(ledger)
            with self.meter.writing():
                table = pa.Table.from_pylist(index, schema=FLOW_INDEX_SCHEMA)
                writer.table(f"_index/{unit.index:06d}.parquet", table)
                return writer.commit(ledger, items=len(index))

    def close(self) -> None:
        self.decoder.close()

    def _cover(self, row: dict[str, Any]) -> None:
        shown = (row["num_real_fields"] + 1) / len(row["to_pts_s"])
        self.meter.covers(row["video_id"], row["start_s"], row["end_s"], shown=shown)

    def _facts(self, index_row: dict[str, Any]) -> dict[str, bytes]:
        """KEY.cls, where there is exactly one label, and KEY.json: the index row, and which fields there are."""
        members = {"json": json.dumps({**index_row, "fields": self._flow.fields}, ensure_ascii=False).encode()}
        if len(index_row["label_ids"]) == 1:
            members = {"cls": str(index_row["label_ids"][0]).encode("ascii"), **members}
        return members


def open_stage(product: Product, store: Store, limits: Limits) -> FlowStage:
    """A stage with a decoder process of its own. Raises ReelmillError where the product's card is missing."""
    return FlowStage(product, store, Decoder(limits))


# ---------------------------------------------------------------- one video


class _ClipsOfUnit:
    """What the clips product says of a unit. Raises ReelmillError where it is missing, stale or damaged."""

    def __init__(self, store: Store, source: str, unit: Unit, fingerprint: str) -> None:
        receipts.require(store, source, unit, unit_fingerprint(fingerprint, unit))
        card = receipts.read_card(store, source)
        if card.fingerprint != fingerprint:
            raise ReelmillError(f"{source}: its card is of other settings; run the whole config again")
        self.source = source
        self.spec = Clips.model_validate(card.settings)
        self.ids = _clip_ids(store, source, unit)
        self.ledger = {row.video_id: row for row in receipts.read_ledger(store, source, unit.index)}


class _Videos:
    """Fills spools with the flow of a unit's videos."""

    def __init__(self, flow: Flow, clips: _ClipsOfUnit, decoder: Decoder, backend: Backend, meter: Meter) -> None:
        self._clips, self._frames, self._decoder = clips, flow.sampling(clips.spec), decoder
        self._meter = meter
        self._sampler = FlowSampler(flow, clips.spec, solve=_solver(flow, backend))

    def make(self, row: VideoRow, spool: Spool) -> LedgerRow:
        """Fill the spool with a video's samples and say how it went. A failed video leaves the spool empty."""
        of_clips = self._clips.ledger[row.video_id]
        if of_clips.status in ("failed", "filtered"):
            message = f"{self._clips.source}: {of_clips.message or of_clips.reason}"
            return LedgerRow(row.video_id, row.uri, of_clips.status, "upstream", message)

        def fill() -> Outcome:
            clips = self._decoder.clips(row, self._frames, grid=self._sampler.grid)
            expected = self._clips.ids[row.video_id]
            return spool.fill(self._sampler.samples(row.video_id, clips, expected=expected, lost=of_clips.reason))

        try:
            outcome = try_twice(fill)
        except VideoError as error:
            spool.clear()
            return LedgerRow(row.video_id, row.uri, "failed", error.reason, error.message)
        self._meter.frames(decoded=outcome.num_frames_decoded, used=outcome.num_frames_used)
        self._meter.read(outcome.num_bytes_read)  # while the worker computes: it seldom waits for it
        if of_clips.status == "partial" and not outcome.reason:  # what the clips have lost is missing here, too
            message = f"{self._clips.source}: {of_clips.message}"
            outcome = replace(outcome, partial=True, reason="upstream", message=message)
        return _ledger_row(row, outcome, num_samples=spool.num_messages, num_short=self._sampler.num_short)


def _ledger_row(row: VideoRow, outcome: Outcome, *, num_samples: int, num_short: int) -> LedgerRow:
    reason, message = outcome.reason, outcome.message
    if num_short and not reason:
        what = "1 of its clips holds" if num_short == 1 else f"{num_short} of its clips hold"
        reason, message = "one_frame", f"{what} fewer than two frames, between which no flow can be computed"
    if num_samples:
        return LedgerRow(row.video_id, row.uri, "partial" if reason else "ok", reason, message, num_samples)
    return LedgerRow(row.video_id, row.uri, "failed", reason, message)


def _clip_ids(store: Store, source: str, unit: Unit) -> dict[str, set[str]]:
    """video_id -> the ids of its clips, from the index of the clips."""
    path = f"{source}/_index/{unit.index:06d}.parquet"
    found: dict[str, set[str]] = defaultdict(set)
    try:
        with store.open(path) as file:
            rows = pq.read_table(file, columns=["video_id", "clip_id"])
    except (OSError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, source, unit.index, error) from None
    for video_id, clip_id in zip(rows["video_id"].to_pylist(), rows["clip_id"].to_pylist(), strict=True):
        found[video_id].add(clip_id)
    return found


# ---------------------------------------------------------------- the backend


def _solver(flow: Flow, backend: Backend) -> Callable[[np.ndarray], np.ndarray]:
    # one thread: a worker per core
    params = TVL1Params(**flow.params.model_dump())
    return partial(tvl1_sequence, params=params, backend=backend, threads=1)


def _backend_of(product: Product, flow: Flow, store: Store) -> Backend:
    """The backend that the card names, so that the machines of one cluster do not differ.

    Raises ReelmillError where it can't be used here, or where that would mix the flow of two backends.
    """
    card = receipts.read_card(store, product.path)
    if card.fingerprint != product.fingerprint:
        raise ReelmillError(f"{product.path}: its card is of other settings; run the whole config again")
    used: Backend = card.details["backend"]["used"]
    begun = f"{product.path} was begun with backend {used}"
    if used == "cuda" and flow.backend in ("cpu", "opencv"):
        raise ReelmillError(f"{begun}: go on with backend: auto or cuda, or delete its folder to make it whole anew")
    try:
        return resolve(used if flow.backend == "auto" else flow.backend)
    except UsageError as error:
        where = "go on where there is a GPU, or delete its folder" if used == "cuda" else "go on with backend: cpu"
        raise ReelmillError(f"{begun} ({error}); {where}") from None
