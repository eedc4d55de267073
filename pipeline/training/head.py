"""The heads stage: the whole manifest is one unit, and training is a pure function of (unit, product, store)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from pipeline import receipts
from pipeline.graph import Product, Unit, digest
from pipeline.stages import card_of
from pipeline.store import Store
from pipeline.training.artifacts import Trained, settings_of, write_artifacts
from pipeline.training.checkpoint import WORK_FOLDER, Progress
from pipeline.training.dataset import HeadData, load_data
from pipeline.training.loop import MAX_GRADIENT_NORM, EpochReport, Place, fit, predict
from pipeline.training.normalise import fit_normaliser
from pipeline.training.results import TOP_K, Scores
from pipeline.training.worker import Worker
from schemas.config import HeadBase, LinearHead, LSTMHead
from schemas.receipt import Receipt

ALONE = Worker()


def describe(product: Product, store: Store) -> dict[str, Any]:
    """What the card says beyond the settings."""
    return {
        "task": "one class a video",
        "loss": "softmax cross-entropy, mean over videos",
        "optimizer": f"AdamW, half a cosine from lr to 0, gradient norm at most {MAX_GRADIENT_NORM}",
        "selection": "the epoch of the lowest validation loss",
        "splits": "the manifest's; what it lacks is held out by a hash of (holdout.seed, video_id)",
        "top_k": TOP_K,
        "ties": "the lower class index first",
    }


def train_head(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    report: Callable[[EpochReport], None] = lambda news: None,
    worker: Worker = ALONE,
    threads: int = 1,
) -> Receipt:
    """Train a head, and its linear probe if it has one, on stored features; returns its receipt.

    `unit` covers the whole manifest, `feature_units` are the units of the features. A head that stands is not
    trained again; one that was interrupted goes on from its working checkpoint. Equal `threads` and equal numbers of
    workers give equal bytes. Raises ReelmillError where features are missing or training makes no sense.
    """
    standing = receipts.standing(store, product, unit)
    if standing is None:
        with using_threads(threads):
            _train(product, unit, store, feature_units=feature_units, report=report, worker=worker)
    elif worker.is_first and not receipts.card_stands(store, product):  # of settings that were tried in between
        receipts.write_card(store, card_of(product, store))
    worker.agree([0.0])  # until the first worker has written everything
    if worker.is_first:  # a kill may have come between the receipt and this
        store.delete_folder(f"{product.path}/{WORK_FOLDER}")
    return standing or receipts.require(store, product.path, unit, product.unit_fingerprint(unit))


def _train(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    report: Callable[[EpochReport], None],
    worker: Worker,
) -> None:
    settings = settings_of(product.settings)
    data = load_data(product, unit, store, settings=settings, feature_units=feature_units)
    normaliser = fit_normaliser(settings.normalise, data.sequences.matrix, data.train_clips)
    normaliser.apply_(data.sequences.matrix, data.sequences.blocks)
    if worker.is_first:
        receipts.write_card(store, card_of(product, store))
    fingerprint = digest([product.unit_fingerprint(unit), _identity(data)])
    trained: dict[str, Trained] = {}
    for name, model_settings in models_of(settings).items():
        place = Place(
            store=store,
            product=product.path,
            name=name,
            work_path=f"{product.path}/{WORK_FOLDER}/{name}.safetensors",
            fingerprint=fingerprint,
            worker=worker,
            report=report,
        )
        progress = fit(model_settings, data, place)
        if worker.is_first:
            trained[name] = Trained(model_settings, progress, score_best(progress, data, model_settings))
    if worker.is_first:
        with receipts.begin(store, product, unit) as writer:
            write_artifacts(writer, product, data, normaliser, trained)
            writer.commit(data.ledger, items=sum(row.num_items for row in data.ledger))


def models_of(settings: HeadBase) -> dict[str, HeadBase]:
    """What a head trains: itself first, and the linear probe beside an LSTM that asks for it."""
    if isinstance(settings, LSTMHead) and settings.linear_probe:
        shared = {name: getattr(settings, name) for name in HeadBase.model_fields}
        return {"lstm": settings, "linear": LinearHead(kind="linear", **shared)}
    return {settings.kind: settings}  # type: ignore[attr-defined]  # every head has one


def score_best(progress: Progress, data: HeadData, settings: HeadBase) -> Scores:
    """Probabilities of the best epoch's weights, split by split."""
    last = {name: tensor.clone() for name, tensor in progress.model.state_dict().items()}
    progress.model.load_state_dict(progress.best)
    scores = {
        split: predict(progress.model, data, data.videos_of(split), batch_size=settings.batch_size)
        for split in data.present
    }
    progress.model.load_state_dict(last)
    return scores


def _identity(data: HeadData) -> str:
    """What a working checkpoint must agree with, besides the fingerprint: features can be healed in between."""
    ids = hashlib.sha256("\n".join(data.sequences.video_ids).encode())
    for array in (data.sequences.offsets, data.labels, np.char.encode(data.splits)):
        ids.update(array.tobytes())
    return ids.hexdigest()


@contextlib.contextmanager
def using_threads(number: int) -> Iterator[None]:
    """Let torch use `number` threads for the time of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
