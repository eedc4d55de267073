"""The products that a dataset holds, as their own cards and receipts tell: no config is needed to read them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import get_args

from pipeline import backbones, receipts
from pipeline.graph import Plan, Product, ProductKind, Unit, unit_fingerprint
from pipeline.stages import CODE_VERSIONS
from pipeline.store import Store
from pipeline.units import MANIFEST, cut_units, read_manifest
from pipeline.verify.report import NotCheckedError, ProductReport, numbers
from schemas.config import Features
from schemas.errors import ReelmillError, UsageError
from schemas.manifest import VideoRow
from schemas.receipt import Card, Receipt

REMOTE_THREADS = 32  # an object store's latency wants many requests at once
KINDS: tuple[ProductKind, ...] = get_args(ProductKind)


@dataclass(slots=True)
class Stored:
    """A product on storage. `sound` are the receipts of units in which no fault was found so far."""

    path: str
    kind: ProductKind
    card: Card
    receipts: dict[int, Receipt]
    sound: dict[int, Receipt] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.partition("/")[2]


def find(store: Store) -> list[str]:
    """The paths of all products, upstream first. Raises UsageError where there is none."""
    if store.read_or_none("_card.json") is not None:
        root, _, path = store.uri.rstrip("/").rpartition("/")
        root, _, kind = root.rpartition("/")
        raise UsageError(f"{store.uri} is a product; write `reelmill verify {root or '.'} --product {kind}/{path}`")
    found = [
        f"{kind}/{name}"
        for kind in KINDS
        for name in store.folders(kind)
        if set(store.files(f"{kind}/{name}")) & {"_card.json"} or "_receipts" in store.folders(f"{kind}/{name}")
    ]
    if not found:
        raise UsageError(f"{store.uri}: no product here (no {', '.join(f'{kind}/NAME' for kind in KINDS)})")
    return found


def open_product(store: Store, path: str, report: ProductReport) -> Stored:
    """A product, with the faults of its card and receipts reported. Raises ReelmillError where it has no sound card."""
    card = receipts.read_card(store, path)
    kind, _, _ = path.partition("/")
    if card.product != path:
        report.faults.append(f"its card is the one of {card.product}")
    stored = Stored(path, kind, card, {})  # type: ignore[arg-type]  # `find` and the command look for KINDS only
    units = receipts.committed_units(store, path)
    with ThreadPoolExecutor(1 if store.is_local else REMOTE_THREADS) as pool:
        loaded = list(pool.map(lambda unit: receipts.load(store, path, unit), units))
    for unit, receipt in zip(units, loaded, strict=True):
        name = receipts.receipt_path(path, unit)
        if receipt is None:
            report.faults.append(f"{name} is damaged, so nobody knows which files its unit has")
        elif (receipt.product, receipt.unit) != (path, unit):
            report.faults.append(f"{name} is the receipt of {receipt.product}, unit {receipt.unit:06d}")
        else:
            stored.receipts[unit] = receipt
    stored.sound = dict(stored.receipts)
    report.num_units = len(stored.receipts)
    return stored


# ---------------------------------------------------------------- fingerprints


def check_fingerprints(store: Store, stored: Stored, inputs: Inputs, plan: Plan | None, report: ProductReport) -> None:
    """Whether settings, card, upstream, receipts and manifest belong together; stale units are not sound."""
    card, path = stored.card, stored.path
    check_card(stored, report)
    for upstream, fingerprint in sorted(card.upstream.items()):
        try:
            beside = receipts.read_card(store, upstream).fingerprint
        except ReelmillError:
            continue  # said where it is needed
        if beside != fingerprint:
            report.faults.append(f"it was made from another {upstream} than the one that lies beside it")
    planned = [product for product in plan.products if product.path == path] if plan else []
    if planned and planned[0].fingerprint != card.fingerprint:
        report.faults.append(
            "it is stale: the dataset's config has other settings by now; `reelmill run` makes it anew"
        )
    units = inputs.units_of(stored)
    if units is None:
        report.notes.append(
            f"whether it is of these videos can't be told without {MANIFEST} and a product that was cut by it"
        )
        return
    missing = [unit.index for unit in units if unit.index not in stored.receipts]
    stale = [
        index
        for index, receipt in sorted(stored.receipts.items())
        if index >= len(units) or receipt.fingerprint != unit_fingerprint(card.fingerprint, units[index])
    ]
    if stale:
        report.faults.append(
            f"{len(stale)} of its units are stale, of other settings or other manifest rows than its card and "
            f"{MANIFEST} say: {numbers(stale)}"
        )
    if missing:
        report.notes.append(f"{len(missing)} of its {len(units)} units are not made yet: {numbers(missing)}")
    stored.sound = {index: receipt for index, receipt in stored.sound.items() if index not in stale}


def check_card(stored: Stored, report: ProductReport) -> None:
    """The card's fingerprint follows from what the card says; one that was edited by hand does not."""
    card = stored.card
    weights = card.details.get("files_sha256")  # of a head; other products but features depend on no file
    if stored.kind == "features":
        try:
            settings = Features.model_validate(card.settings)
            if settings.preprocess.mean is None or not isinstance(settings.preprocess.mean, str):
                weights = str(card.details["weights"]["sha256"])
            else:
                weights = backbones.weights_sha256(settings.model, settings.weights, preprocess=settings.preprocess)
        except (ValueError, KeyError, TypeError, ReelmillError):
            return  # said where the features are made again
    product = Product(stored.kind, stored.name, card.settings, card.upstream, card.code_version, weights)
    if product.fingerprint != card.fingerprint:
        report.faults.append("its card was changed after it was written: its settings do not give its fingerprint")


def require_version(stored: Stored) -> None:
    """Raises NotCheckedError for a product of another version of its stage."""
    ours, theirs = CODE_VERSIONS[stored.kind], stored.card.code_version
    if ours != theirs:
        raise NotCheckedError(
            f"it is of version {theirs} of the {stored.kind} stage, and this reelmill makes version {ours}: its items "
            "can't be made again here"
        )


# ---------------------------------------------------------------- the manifest


def _counts(products: Sequence[Stored], num_rows: int) -> list[int]:
    """The rows of each unit, as the receipts tell; none where they do not tell how the manifest was cut."""
    of_unit = {index: sum(r.rows.values()) for p in products if p.kind != "heads" for index, r in p.receipts.items()}
    counts: list[int] = []
    most = max(of_unit.values(), default=0)
    # units that nobody made yet are as large as the largest; right for those at the end, and where sizes are equal
    has_gap = len(of_unit) <= max(of_unit, default=-1)
    if not most or (has_gap and any(of_unit[index] != most for index in sorted(of_unit)[:-1])):
        return []
    while num_rows > 0:
        counts.append(min(num_rows, of_unit.get(len(counts)) or most))
        num_rows -= counts[-1]
    return counts


class Inputs:
    """The manifest beside the products, cut into units as they were. Without one, what the ledgers say."""

    def __init__(self, store: Store, products: Sequence[Stored], plan: Plan | None) -> None:
        self._store = store
        self._table = None
        self._units: Sequence[Unit] = ()
        if store.read_or_none(MANIFEST) is None:
            return
        self._table = read_manifest(store)
        self._units = plan.units if plan else cut_units(self._table, _counts(products, self._table.num_rows))

    @property
    def has_manifest(self) -> bool:
        return self._table is not None

    def units_of(self, stored: Stored) -> Sequence[Unit] | None:
        """The units of a product; None where no manifest tells, or nothing tells how it was cut."""
        if not self._units:
            return None
        plan = Plan((), tuple(self._units))
        return (plan.whole,) if stored.kind == "heads" else plan.units

    def rows(self, product: str, unit: int) -> dict[str, tuple[VideoRow, int | None]]:
        """video_id -> its manifest row and the bytes of its file, of a unit of a product (not of a head)."""
        if self._table is None:
            ledger = receipts.read_ledger(self._store, product, unit)
            return {row.video_id: (VideoRow(row.video_id, row.uri, None, (), (), None, None), None) for row in ledger}
        if unit >= len(self._units):
            return {}
        of_unit = self._units[unit]
        table = self._table.slice(of_unit.start_row, of_unit.num_rows)
        return {row["video_id"]: (VideoRow.from_dict(row), row.get("bytes")) for row in table.to_pylist()}
