"""The clips stage: a unit's videos to one WebDataset shard, its index and its ledger.

    clips-000000.tar          KEY.000.jpg … (or KEY.mp4, KEY.npy), KEY.cls where there is one label, KEY.json
    _index/000000.parquet     one row per clip: schemas.clips
    _ledger/000000.parquet    one row per video: ok, partial, failed or filtered

A video's clips wait in a spool until its end is known, and only then go into the tar.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from pipeline import receipts
from pipeline.graph import Product, Unit
from pipeline.meter import Meter
from pipeline.shards import ShardWriter
from pipeline.stages.spool import Spool, try_twice
from pipeline.store import Store
from pipeline.units import unit_rows
from pipeline.video.errors import VideoError
from pipeline.video.guard import Decoder
from pipeline.video.sample import MAX_GAP_S
from pipeline.video.wire import EncodedClip, Outcome
from schemas.clips import CLIP_INDEX_SCHEMA
from schemas.config import Clips, Limits
from schemas.ledger import LedgerRow, Status
from schemas.manifest import VideoRow
from schemas.receipt import Receipt


def make_unit(unit: Unit, *, product: Product, store: Store, decoder: Decoder, meter: Meter) -> Receipt:
    """Make one unit: every video of it in manifest order.

    What is wrong with a video becomes its ledger row. Raises StorageError where the output can't be written.
    """
    spec = Clips.model_validate(product.settings)
    ledger: list[LedgerRow] = []
    index: list[dict[str, Any]] = []
    with receipts.begin(store, product, unit) as writer:
        with meter.reading():
            rows = unit_rows(store, unit)
        with ShardWriter(meter.output(writer.file(f"clips-{unit.index:06d}.tar"))) as shard:
            for row in rows:
                with Spool(store, product.path) as spool:
                    ledger.append(_sample(row, spec, decoder=decoder, spool=spool, meter=meter))
                    for header, blobs in spool.messages():
                        clip = EncodedClip.from_message(header, blobs)
                        index.append(index_row(row, clip))
                        shown = clip.num_real_frames / spec.frames
                        meter.covers(row.video_id, clip.start_s, clip.end_s, shown=shown)
                        shard.add(clip.clip_id, {**clip.members, **_labels_and_json(index[-1])})
        meter.ledger(ledger)
        with meter.writing():
            table = pa.Table.from_pylist(index, schema=CLIP_INDEX_SCHEMA)
            writer.table(f"_index/{unit.index:06d}.parquet", table)
            return writer.commit(ledger, items=len(index))


class ClipsStage:
    """The stage as a worker holds it: with a decoder process that lives from unit to unit."""

    def __init__(self, product: Product, store: Store, decoder: Decoder) -> None:
        self._product = product
        self._store = store
        self.decoder = decoder
        self.meter = Meter(child=lambda: decoder.pid)

    def __call__(self, unit: Unit) -> Receipt:
        return make_unit(unit, product=self._product, store=self._store, decoder=self.decoder, meter=self.meter)

    def close(self) -> None:
        self.decoder.close()


def open_stage(product: Product, store: Store, limits: Limits) -> ClipsStage:
    """A stage with a decoder process of its own."""
    return ClipsStage(product, store, Decoder(limits))


def describe(product: Product, store: Store) -> dict[str, Any]:
    """What the card says of how the clips were made."""
    # cv2 and av: workers, who never call this, do without them
    from pipeline.video import encode, transform

    spec = Clips.model_validate(product.settings)
    return {
        "sampling": _describe_sampling(spec),
        "frames": transform.describe(spec),
        "storage": encode.describe(spec),
        "members": "frames, then KEY.cls (the label id, where there is exactly one), then KEY.json (the index row)",
    }


# ---------------------------------------------------------------- one video


def _sample(row: VideoRow, spec: Clips, *, decoder: Decoder, spool: Spool, meter: Meter) -> LedgerRow:
    """Fill the spool with a video's clips and say how it went. A failed video leaves the spool empty."""
    try:
        outcome = try_twice(lambda: spool.fill(decoder.clips(row, spec)))
    except VideoError as error:
        spool.clear()
        return LedgerRow(row.video_id, row.uri, "failed", error.reason, error.message)
    meter.frames(decoded=outcome.num_frames_decoded, used=outcome.num_frames_used)
    meter.read(outcome.num_bytes_read)
    meter.waited(outcome.reading_s)  # as the worker waits for the decoder meanwhile
    return _ledger_row(row, outcome, num_clips=spool.num_messages)


def _ledger_row(row: VideoRow, outcome: Outcome, *, num_clips: int) -> LedgerRow:
    if num_clips:
        status: Status = "partial" if outcome.partial else "ok"
        return LedgerRow(row.video_id, row.uri, status, outcome.reason, outcome.message, num_clips)
    if outcome.partial:  # what was lost may be what a clip would have been made of
        return LedgerRow(row.video_id, row.uri, "failed", outcome.reason, outcome.message)
    message = "it is shorter than one clip, and tail is drop"
    return LedgerRow(row.video_id, row.uri, "filtered", "too_short", message)


def index_row(row: VideoRow, clip: EncodedClip) -> dict[str, Any]:
    """The fields of schemas.clips.CLIP_INDEX_SCHEMA, in its order."""
    return {
        "clip_id": clip.clip_id,
        "video_id": row.video_id,
        "start_s": clip.start_s,
        "center_s": (clip.start_s + clip.end_s) / 2,
        "end_s": clip.end_s,
        "label_ids": list(clip.label_ids),
        "frame_pts_s": list(clip.frame_pts_s),
        "num_real_frames": clip.num_real_frames,
        "height_px": clip.height_px,
        "width_px": clip.width_px,
    }


def _labels_and_json(index_row: dict[str, Any]) -> dict[str, bytes]:
    members = {"json": json.dumps(index_row, ensure_ascii=False).encode()}
    if len(index_row["label_ids"]) == 1:
        members = {"cls": str(index_row["label_ids"][0]).encode("ascii"), **members}
    return members


# ---------------------------------------------------------------- the card


def _describe_sampling(spec: Clips) -> dict[str, str]:
    starts = {
        "stride": f"every {spec.step_s:g} s from the video's (or the row's) start; the first window that the end cuts "
        "is the last",
        "uniform": f"{spec.num_clips} starts spread evenly, both ends included; one alone is centred",
        "random": f"{spec.num_clips} distinct starts of whole microseconds, drawn from seed {spec.seed} and video_id",
        "segment": "one per labelled segment: from its start, or centred on it where it is longer than a clip",
    }[spec.windows]
    tail = {
        "drop": "a window that the end cuts is left out",
        "pad": "a window that the end cuts repeats its last frame",
        "loop": "a window that the end cuts shows its frames over again",
    }[spec.tail]
    return {
        "clock": "presentation timestamps of the source file, in seconds; no frame rate of a header is used",
        "frame": f"frame k of a clip is the one on display at t = start_s + k / {spec.fps:g}: the last with pts <= t",
        "length": f"{spec.frames} frames at {spec.fps:g} a second: half-open, {spec.length_s:g} s",
        "windows": starts,
        "gaps": f"a window that lies whole inside the time of a frame that stays for more than {MAX_GAP_S} s is left "
        "out, and the video is partial (clock_jumps)",
        "tail": tail,
    }
