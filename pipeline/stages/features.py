"""Features: the clips of a unit through a backbone, a row for each view of each window of each clip.

    clips-000000.tar   ┐ read and decoded ahead -> windows, views -> ┌ part-000000.parquet   vectors
    flow-000000.tar    ┘ batches across videos  -> net.features   -> └ maps-000000.tar, _index/000000.parquet

A batch's rows follow from the unit alone, and rows are in the shard's order, so equal units give equal bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from pipeline import receipts
from pipeline.backbones import build, precision
from pipeline.backbones.engine import Engine
from pipeline.graph import Product, Unit, unit_fingerprint
from pipeline.meter import Meter
from pipeline.receipts import UnitWriter
from pipeline.stages.clip_inputs import ClipInputs, read_upstream
from pipeline.stages.clip_stream import Clip, ClipStream
from pipeline.stages.feature_card import describe
from pipeline.stages.feature_files import MapFile, VectorFile
from pipeline.stages.feature_rows import FeatureRows, Row
from pipeline.stages.spool import Spool
from pipeline.store import Store
from pipeline.threads import use_all_cores
from schemas.config import Features, Limits
from schemas.errors import ReelmillError
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt

__all__ = ["FeatureStage", "describe", "open_stage"]

FLOAT16_MAX = float(np.finfo(np.float16).max)


def open_stage(product: Product, store: Store, limits: Limits) -> FeatureStage:
    """A stage that holds the model. Raises ReelmillError where the product's card is missing."""
    return FeatureStage(product, store)


class FeatureStage:
    """Features of one unit per call."""

    def __init__(self, product: Product, store: Store) -> None:
        self._product, self._store = product, store
        self.meter = Meter()
        self._settings = settings = Features.model_validate(product.settings)
        card = receipts.read_card(store, product.path)
        if card.fingerprint != product.fingerprint:
            raise ReelmillError(f"{product.path}: its card is of other settings; run the whole config again")
        self._upstream = read_upstream(store, settings.source)
        use_all_cores()
        net = build(
            settings.model, weights=settings.weights, options=settings.model_options, preprocess=settings.preprocess
        )
        if net.weights.sha256 != card.details["weights"]["sha256"]:
            raise ReelmillError(f"{product.path}: {settings.weights} was replaced; run the whole config again")
        self._inputs = ClipInputs(self._upstream, net.spec, settings)
        self._layer: str = card.details["layer"]
        self._engine = Engine(
            net,
            layer=self._layer,
            dense=settings.dense,
            # as the card says, so that machines of one cluster do not differ
            precision=precision.Precision(card.details["precision"]["used"], "on the card"),
            on=precision.device(),
            batch_size=settings.batch_size,
            meaning=self._upstream.level_meanings,
        )
        self._several = card.details["views"]["views"] > 1 or settings.window is not None
        card_json = json.dumps(card.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        self._schema = feature_schema(card.details["dim"], card_json)

    def __call__(self, unit: Unit) -> Receipt:
        """Make one unit. Raises ReelmillError where the clips of this unit are missing or stale."""
        store, source, product, meter = self._store, self._settings.source, self._product, self.meter
        with meter.reading():
            clips = receipts.require(store, source, unit, unit_fingerprint(product.upstream[source], unit))
            if receipts.read_card(store, source).fingerprint != self._upstream.fingerprint:
                raise ReelmillError(f"{source}: its card is of other settings; run the whole config again")
            ledger = receipts.read_ledger(store, source, unit.index)
        meter.read(sum(entry.bytes for entry in clips.files if entry.path.endswith(".tar")))
        expected = {row.video_id: row.num_items for row in ledger if row.status in ("ok", "partial")}
        with receipts.begin(store, product, unit) as writer:
            rows = self._write(writer, unit, expected)
            accounts = [_account(row, rows, source) for row in ledger]
            meter.ledger(accounts)
            with meter.writing():
                items = rows.num_rows.total()
                return writer.commit(accounts, items=items, no_longer=self._other_files(unit))

    def close(self) -> None:
        """Let go of the model."""
        del self._engine

    def _write(self, writer: UnitWriter, unit: Unit, expected: dict[str, int]) -> FeatureRows:
        """Write the files of a unit; returns what became of its videos."""
        with ExitStack() as stack:
            file: MapFile | VectorFile
            if self._settings.dense:
                tar = self.meter.output(writer.file(f"maps-{unit.index:06d}.tar"))
                file = stack.enter_context(MapFile(tar, layer=self._layer, several=self._several))
            else:
                part = self.meter.output(writer.file(f"part-{unit.index:06d}.parquet"))
                file = stack.enter_context(VectorFile(part, self._schema))
            spool = stack.enter_context(Spool(self._store, self._product.path))
            rows = FeatureRows(file, spool, expected=expected)
            self._fill(rows, unit)
            rows.finish()
            file.finish()
            if isinstance(file, MapFile):
                with self.meter.writing():
                    writer.table(f"_index/{unit.index:06d}.parquet", file.index())
        return rows

    def _fill(self, rows: FeatureRows, unit: Unit) -> None:
        """All clips of a unit, and all their rows, in order."""
        path = f"{self._upstream.path}/{self._upstream.shard_name}-{unit.index:06d}.tar"
        # what is under way, in order: each clip with what is wrong with it, then its rows
        sent: deque[tuple[Clip, str] | Row] = deque()

        def inputs(clips: ClipStream) -> Iterator[np.ndarray]:
            for clip, frames in clips:
                if isinstance(frames, str):
                    sent.append((clip, frames))
                    continue
                sent.append((clip, ""))
                shown = clip.num_real / self._upstream.frames
                self.meter.covers(clip.video_id, clip.start_s, clip.end_s, shown=shown)
                for row, pixels in self._inputs.rows(clip, frames):
                    sent.append(row)
                    yield pixels

        def next_row() -> Row | None:
            while sent:
                item = sent.popleft()
                if isinstance(item, Row):
                    return item
                rows.clip(*item)
            return None

        try:
            with (
                self._store.open(path) as shard,
                ClipStream(shard, decode=self._inputs.decode, num_bytes=self._inputs.num_bytes) as clips,
            ):
                waited_s, device_s = self._engine.waited_s, self._engine.device_s
                for values in self._engine.run(inputs(clips)):
                    row = next_row()
                    assert row is not None, "more results than inputs"
                    self._add(rows, row, values)
                left = next_row()  # clips without a row
                assert left is None, "fewer results than inputs"
                self.meter.waited(self._engine.waited_s - waited_s)
                if self._engine.device_s is not None:
                    self.meter.device(self._engine.device_s - (device_s or 0.0))
        except (FileNotFoundError, tarfile.TarError) as error:
            raise receipts.unreadable(path, self._upstream.path, unit.index, error) from None

    def _add(self, rows: FeatureRows, row: Row, values: np.ndarray) -> None:
        """(D,) or (C, T, H, W) float32, as it is to be stored."""
        settings = self._settings
        if not np.isfinite(values).all():
            return rows.fail(row.video_id, f"clip {row.clip_id} gave NaN or Inf in {self._layer}")
        if settings.time_pool == "mean":
            values = values.mean(axis=1, keepdims=True)
        if settings.dtype == "float16":
            largest = float(np.abs(values).max(initial=0))
            if largest > FLOAT16_MAX:
                what = f"clip {row.clip_id} gave {largest:g} in {self._layer}, more than float16 holds"
                return rows.fail(row.video_id, f"{what}; set dtype: float32")
            values = values.astype(np.float16)
        rows.row(row, values)

    def _other_files(self, unit: Unit) -> tuple[str, ...]:
        """The files of a unit of maps where this product is of vectors now, and the other way round."""
        if self._settings.dense:
            return (f"part-{unit.index:06d}.parquet",)
        return (f"maps-{unit.index:06d}.tar", f"_index/{unit.index:06d}.parquet")


def _account(row: LedgerRow, rows: FeatureRows, source: str) -> LedgerRow:
    """The ledger row of a video, from its row upstream and from what became of its clips here."""
    if row.status in ("failed", "filtered"):
        return LedgerRow(row.video_id, row.uri, row.status, "upstream", f"{source}: {row.message or row.reason}")
    if row.video_id in rows.problems:
        return LedgerRow(row.video_id, row.uri, "failed", "clip", rows.problems[row.video_id])
    return LedgerRow(row.video_id, row.uri, row.status, row.reason, row.message, rows.num_rows[row.video_id])
