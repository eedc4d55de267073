"""Features: the clips of a unit through a backbone, one Parquet row per clip.

    clips-000000.tar -> read and decoded ahead -> batches across videos -> net.features -> part-000000.parquet

A batch's clips follow from the unit alone, and rows are in the shard's order, so equal units give equal bytes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from pipeline import receipts
from pipeline.backbones import build, precision, random_seed
from pipeline.graph import Product, Unit, unit_fingerprint
from pipeline.stages.clip_stream import Clip, clips_ahead
from pipeline.stages.feature_rows import FeatureRows
from pipeline.store import Store
from pipeline.threads import use_all_cores
from schemas.config import Features, Limits
from schemas.errors import ReelmillError, UsageError
from schemas.features import feature_schema
from schemas.ledger import LedgerRow
from schemas.receipt import Card, Receipt

PROBE_CLIPS = 4  # seeded clips on which the card states what the precision costs
PROBE_SEED = 0


def describe(product: Product, store: Store) -> dict[str, Any]:
    """What the card says beyond the settings. Loads the model once; raises UsageError before any work is done."""
    settings = Features.model_validate(product.settings)
    threads = use_all_cores()
    net = build(settings.model, weights=settings.weights, options=settings.model_options)
    layer = settings.layer or net.spec.default_layer
    dim = net.spec.require_layer(layer)
    _check_frames(receipts.read_card(store, settings.source), net.spec)
    on = precision.device()
    chosen = precision.choose(settings.precision, on)
    return {
        "model": settings.model,
        "layer": layer,
        "dim": dim,
        "weights": _describe_weights(net),
        "preprocessing": {**_plain(asdict(net.spec)), "words": net.spec.words()},
        "precision": {
            "asked": settings.precision,
            "used": chosen.used,
            "why": chosen.why,
            "difference_to_fp32": _difference(net, chosen, layer, on),
        },
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu",
        "threads": threads,
        "batch": "clips of a unit in shard order, across videos",
    }


def open_stage(product: Product, store: Store, limits: Limits) -> FeatureStage:
    """A stage that holds the model. Raises ReelmillError where the product's card is missing."""
    return FeatureStage(product, store)


class FeatureStage:
    """Features of one unit per call."""

    def __init__(self, product: Product, store: Store) -> None:
        self._product, self._store = product, store
        self._settings = Features.model_validate(product.settings)
        card = receipts.read_card(store, product.path)
        if card.fingerprint != product.fingerprint:
            raise ReelmillError(f"{product.path}: its card is of other settings; run the whole config again")
        use_all_cores()
        self._layer: str = card.details["layer"]
        self._on = precision.device()
        # as the card says, so that machines of one cluster do not differ
        self._precision = precision.Precision(card.details["precision"]["used"], "on the card")
        net = build(self._settings.model, weights=self._settings.weights, options=self._settings.model_options)
        self._net = precision.prepare(net, self._precision, self._on)
        self._batch_size = self._settings.batch_size
        card_json = json.dumps(card.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        self._schema = feature_schema(card.details["dim"], card_json)

    def __call__(self, unit: Unit) -> Receipt:
        """Make one unit. Raises ReelmillError where the clips of this unit are missing or stale."""
        source = self._settings.source
        receipts.require(self._store, source, unit, unit_fingerprint(self._product.upstream[source], unit))
        upstream = receipts.read_card(self._store, source)
        _check_frames(upstream, self._net.spec)
        ledger = receipts.read_ledger(self._store, source, unit.index)
        expected = {row.video_id: row.num_items for row in ledger if row.status in ("ok", "partial")}
        with receipts.begin(self._store, self._product, unit) as writer:
            part = writer.file(f"part-{unit.index:06d}.parquet")
            with FeatureRows(part, self._schema, expected=expected) as rows:
                with closing(self._results(unit, upstream)) as results:
                    for clip, result in results:
                        rows.add(clip, result)
                rows.finish()
            return writer.commit([_account(row, rows, source) for row in ledger], items=rows.num_rows)

    def close(self) -> None:
        """Let go of the model."""
        del self._net

    def _results(self, unit: Unit, upstream: Card) -> Generator[tuple[Clip, np.ndarray | str], None, None]:
        """Each clip in order, with its (D,) float32 vector or the sentence that says why it has none."""
        size, path = self._settings.batch_size, f"{upstream.product}/clips-{unit.index:06d}.tar"
        try:
            with self._store.open(path) as shard:
                clips = clips_ahead(shard, encoding=upstream.settings["encoding"], fit=self._net.fit, depth=size)
                with closing(clips):
                    for group in _batches(clips, size):
                        yield from self._of_group(group)
        except (FileNotFoundError, tarfile.TarError) as error:
            raise receipts.unreadable(path, upstream.product, unit.index, error) from None

    def _of_group(self, group: Sequence[Clip]) -> Iterator[tuple[Clip, np.ndarray | str]]:
        vectors = iter(self._vectors([clip.pixels for clip in group if clip.pixels is not None]))
        for clip in group:
            if clip.pixels is None:
                yield clip, clip.problem
                continue
            vector = next(vectors)
            finite = bool(np.isfinite(vector).all())
            yield clip, vector if finite else f"clip {clip.clip_id} gave NaN or Inf in {self._layer}"

    def _vectors(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """(N, D) float32. Out of memory halves the batch, for this unit and those after it."""
        parts = []
        start = 0
        while start < len(pixels):
            batch = np.stack(pixels[start : start + self._batch_size])
            try:
                parts.append(
                    precision.vectors(self._net, batch, layer=self._layer, precision=self._precision, on=self._on)
                )
                start += len(batch)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise ReelmillError(f"{self._product.path}: out of memory with a single clip ({error})") from None
                self._batch_size = len(batch) // 2
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _batches(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    """Runs of clips with `size` decoded ones in each but the last."""
    group: list[Clip] = []
    num_decoded = 0
    for clip in clips:
        group.append(clip)
        num_decoded += clip.pixels is not None
        if num_decoded == size:
            yield group
            group, num_decoded = [], 0
    if group:
        yield group


def _account(row: LedgerRow, rows: FeatureRows, source: str) -> LedgerRow:
    """The ledger row of a video, from its row upstream and from what became of its clips here."""
    if row.status in ("failed", "filtered"):
        return LedgerRow(row.video_id, row.uri, row.status, "upstream", f"{source}: {row.message or row.reason}")
    if row.video_id in rows.problems:
        return LedgerRow(row.video_id, row.uri, "failed", "clip", rows.problems[row.video_id])
    return LedgerRow(row.video_id, row.uri, row.status, row.reason, row.message, row.num_items)


def _check_frames(upstream: Card, spec: Any) -> None:
    frames = upstream.settings["frames"]
    if frames != spec.frames:
        raise UsageError(
            f"{upstream.product} has clips of {frames} frames, but {spec.name} takes {spec.frames}: "
            f"set frames: {spec.frames} there, or take features from other clips"
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _describe_weights(net: Any) -> dict[str, Any]:
    facts = _plain(asdict(net.weights))
    seed = random_seed(net.weights.source)
    if seed is not None:
        facts["words"] = f"random weights, seed {seed}: asked for by name"
    return facts


def _difference(net: Any, chosen: precision.Precision, layer: str, on: torch.device) -> dict[str, Any]:
    """Features of seeded clips in fp32 and in the chosen precision; the net is left in the latter."""
    spec = net.spec
    clips = precision.textured_clips(PROBE_CLIPS, frames=spec.frames, size=spec.size, seed=PROBE_SEED)
    fp32 = precision.Precision("fp32", "the reference")
    both = [
        precision.vectors(precision.prepare(net, one, on), clips, layer=layer, precision=one, on=on)
        for one in (fp32, chosen)
    ]
    return precision.difference(*both, seed=PROBE_SEED)


def _plain(value: Any) -> Any:
    """Tuples and mappings as the card's JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
