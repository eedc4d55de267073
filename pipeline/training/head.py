"""The heads stage: the whole manifest is one unit, and training is a pure function of (unit, product, store)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline import receipts
from pipeline.graph import Product, Unit, digest
from pipeline.stages import card_of
from pipeline.store import Store
from pipeline.threads import using_torch_threads
from pipeline.training.artifacts import write_artifacts
from pipeline.training.checkpoint import WORK_FOLDER, Progress, weights_of
from pipeline.training.loop import MAX_GRADIENT_NORM, Place, Report, fit
from pipeline.training.task import Source, Task, Trained
from pipeline.training.tasks import open_task, settings_of, task_class
from pipeline.training.worker import Worker
from schemas.heads import HeadBase
from schemas.receipt import Receipt

ALONE = Worker()


def describe(product: Product, store: Store) -> dict[str, Any]:
    """What the card says beyond the settings."""
    settings = settings_of(product.settings)
    return {
        "optimizer": f"{settings.optimizer}, {settings.schedule} schedule, gradient norm at most {MAX_GRADIENT_NORM}",
        "splits": "the manifest's; what it lacks is held out by a hash of (holdout.seed, video_id)",
        "files_sha256": product.files_sha256,  # of annotations, proposals or a network's first weights
        **task_class(settings).describe(settings),
    }


def train_head(
    product: Product,
    unit: Unit,
    store: Store,
    *,
    feature_units: Sequence[Unit],
    report: Report = lambda news: None,
    worker: Worker = ALONE,
    threads: int = 1,
) -> Receipt:
    """Train a head, and its linear probe if it has one, on what is stored; returns its receipt.

    `unit` covers the whole manifest, `feature_units` are the units of what it is trained on. A head that stands is not
    trained again; one that was interrupted goes on from its working checkpoint. Equal `threads` and equal numbers of
    workers give equal bytes. Raises ReelmillError where features are missing or training makes no sense.
    """
    standing = receipts.standing(store, product, unit)
    if standing is None:
        with using_torch_threads(threads):
            _train(Source(product, unit, feature_units, store), report=report, worker=worker)
    elif worker.is_first and not receipts.card_stands(store, product):  # of settings that were tried in between
        receipts.write_card(store, card_of(product, store))
    worker.agree([0.0])  # until the first worker has written everything
    if worker.is_first:  # a kill may have come between the receipt and this
        store.delete_folder(f"{product.path}/{WORK_FOLDER}")
    return standing or receipts.require(store, product.path, unit, product.unit_fingerprint(unit))


def _train(source: Source, *, report: Report, worker: Worker) -> None:
    product, unit, store = source.product, source.unit, source.store
    task = open_task(source, settings_of(product.settings))
    if worker.is_first:
        receipts.write_card(store, card_of(product, store))
    fingerprint = digest([product.unit_fingerprint(unit), task.identity()])
    trained: dict[str, Trained] = {}
    for name, settings in task.models().items():
        place = Place(
            store=store,
            product=product.path,
            name=name,
            work_path=f"{product.path}/{WORK_FOLDER}/{name}.safetensors",
            fingerprint=fingerprint,
            worker=worker,
            report=report,
        )
        progress = fit(task, settings, place)
        if worker.is_first:
            trained[name] = _judge(task, settings, progress)
    if worker.is_first:
        with receipts.begin(store, product, unit) as writer:
            write_artifacts(writer, product.path, task, trained)
            writer.commit(task.ledger, items=sum(row.num_items for row in task.ledger))


def _judge(task: Task[Any], settings: HeadBase, progress: Progress) -> Trained:
    """What came of a training, with what the best epoch's weights say."""
    last = weights_of(progress.model)
    progress.model.load_state_dict(progress.best)
    outputs = task.outputs(settings, progress.model)
    return Trained(settings, progress.history, progress.best_epoch, progress.best, last, outputs)
