"""From a config to a plan: the manifest (made when missing), the units, the products and a clean place to work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from pipeline import backbones, receipts
from pipeline.annotations import annotations_sha256, open_annotations
from pipeline.backbones.identity import file_sha256
from pipeline.graph import Plan, digest, make_plan
from pipeline.say import say
from pipeline.sources import build_manifest, source_json
from pipeline.stages import CODE_VERSIONS
from pipeline.store import TEMP_FOLDER, Store
from pipeline.units import MANIFEST, manifest_source, plan_units, read_labels, read_manifest
from schemas.config import Config, Features
from schemas.errors import ReelmillError, UsageError
from schemas.heads import ClipClassifierHead, HeadBase, RoIHead, SequenceSettings, task_of

CONFIG_FILE = "_config.json"  # lets `status` answer from storage alone
MODALITIES = {"clips": "rgb", "flow": "flow"}  # what each kind of product holds


@dataclass(frozen=True, slots=True)
class Prepared:
    config: Config
    store: Store
    plan: Plan


def hash_files(path: str, settings: Features | HeadBase) -> str | None:
    """The identity of the files that a product is made from besides other products; None where there are none.

    Raises UsageError for an unknown model, one that doesn't take what `from` holds, and files that can't be read, and
    ReelmillError for half a TensorFlow checkpoint. `path` is the product's.
    """
    where = path.replace("/", ".")
    if isinstance(settings, Features | ClipClassifierHead):
        return _hash_weights(where, settings)
    hashes = []
    try:
        if (found := getattr(settings, "annotations", None)) is not None:
            hashes.append(annotations_sha256(found))
        if isinstance(settings, RoIHead) and settings.proposals not in ("learned", "truth"):
            hashes.append(file_sha256(settings.proposals))
    except ReelmillError as error:
        raise type(error)(f"{where}: {error}") from None
    return digest(hashes) if hashes else None


def _hash_weights(where: str, settings: Features | ClipClassifierHead) -> str:
    if settings.model not in backbones.names():
        raise UsageError(f"{where}.model: there is no model {settings.model!r}, only {', '.join(backbones.names())}")
    takes = backbones.modality(settings.model)
    if takes != MODALITIES[settings.source.partition("/")[0]]:
        problem = (
            f"takes flow, and {settings.source} is rgb frames: make a flow product of these clips, and take that"
            if takes == "flow"
            else f"takes rgb frames, and {settings.source} is flow: take the clips that it was made of"
        )
        raise UsageError(f"{where}.from: {settings.model} {problem}")
    try:
        return backbones.weights_sha256(settings.model, settings.weights, preprocess=settings.preprocess)
    except ReelmillError as error:
        raise type(error)(f"{where}: {error}") from None


def plan_config(
    config: Config, store: Store, *, sha256: Callable[[str, Features | HeadBase], str | None] = hash_files
) -> Plan:
    """The plan of a config on the manifest that stands in its dataset. Raises ReelmillError without one."""
    return plan_of(config, read_manifest(store), sha256=sha256)


def plan_of(
    config: Config, manifest: pa.Table, *, sha256: Callable[[str, Features | HeadBase], str | None] = hash_files
) -> Plan:
    """The plan of a config on a manifest."""
    size = config.units.size(manifest.num_rows)
    units = plan_units(manifest, size, bytes_per_unit=config.units.bytes_per_unit)
    return make_plan(config, units, code_version=CODE_VERSIONS.__getitem__, sha256=sha256)


def prepare(config: Config) -> Prepared:
    """Make the manifest where it is missing or of another source, plan, and sweep what killed runs left.

    A manifest that stands is kept: a source that can't be listed whole for a moment must not take products away.
    """
    store = Store(config.dataset)
    hashes = {
        f"features/{name}": hash_files(f"features/{name}", features) for name, features in config.features.items()
    }
    hashes |= {f"heads/{name}": hash_files(f"heads/{name}", head) for name, head in config.heads.items()}
    if manifest_source(store) != source_json(config.source).decode():
        say(f"indexed {build_manifest(store, config.source)}")
    else:
        say(f"using {store.uri}/{MANIFEST} as it stands (`reelmill index` looks at the source again)")
    of_labels = [name for name, head in config.heads.items() if _takes_labels(head)]
    if of_labels and len(read_labels(store)) < 2:
        raise UsageError(
            f"heads.{of_labels[0]}: this source has fewer than two labels to tell apart; put each class's "
            "videos in a folder of its own, index a list with labels, or leave `heads` out"
        )
    plan = plan_config(config, store, sha256=lambda path, settings: hashes[path])
    if not plan.units:
        raise ReelmillError(f"{store.uri}/{MANIFEST} has no rows: there is nothing to do; index a source with videos")
    _try_annotations(config, plan, store)
    if store.is_local:
        store.delete_folder(TEMP_FOLDER)
    for product in plan.products:
        receipts.sweep(store, product.path)
        receipts.prune(store, product.path, len(plan.units_of(product)))
    _leave_config(config, plan, store)
    if store.is_local:
        store.delete_folder(TEMP_FOLDER)
    return Prepared(config, store, plan)


def _takes_labels(head: HeadBase) -> bool:
    """Whether a head's classes are the labels of the manifest's videos."""
    is_dense = isinstance(head, SequenceSettings) and head.labels == "dense"
    return task_of(head) in ("classification", "clips") and not is_dense


def _try_annotations(config: Config, plan: Plan, store: Store) -> None:
    """Raises UsageError for annotations that can't be read: before hours of features are made for their head."""
    for product in plan.products:
        found = getattr(config.heads.get(product.name), "annotations", None) if product.kind == "heads" else None
        if found is None or found.kind == "manifest" or receipts.standing(store, product, plan.whole) is not None:
            continue
        try:
            open_annotations(found)
        except UsageError as error:
            raise UsageError(f"heads.{product.name}.annotations: {error}") from None


def _leave_config(config: Config, plan: Plan, store: Store) -> None:
    """Write the config into the dataset, with the hashes of weights and annotations: their files may be gone later."""
    hashes = {product.path: product.files_sha256 for product in plan.products if product.files_sha256 is not None}
    left = {"config": config.model_dump(mode="json", by_alias=True), "files_sha256": hashes}
    document = (json.dumps(left, indent=1, sort_keys=True) + "\n").encode()
    if store.read_or_none(CONFIG_FILE) != document:
        store.put(CONFIG_FILE, document)


def stored_plan(dataset: str) -> tuple[Store, Plan]:
    """The plan of the last run of a dataset, from storage alone. Raises UsageError where there was none."""
    store = Store(dataset)
    data = store.read_or_none(CONFIG_FILE)
    if data is None:
        raise UsageError(f"{dataset}: not a dataset that `reelmill run` has made (it has no {CONFIG_FILE})")
    try:
        left = json.loads(data)
        config, hashes = Config.model_validate(left["config"]), dict(left["files_sha256"])
    except (ValueError, KeyError, TypeError):  # pydantic's error is a ValueError
        raise ReelmillError(f"{dataset}/{CONFIG_FILE} is damaged; run its config again, or name the config") from None
    return store, plan_config(config, store, sha256=lambda path, settings: hashes.get(path))
