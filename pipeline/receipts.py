"""The commit protocol: a unit's files appear whole, its receipt last; readers trust receipts only.

    with begin(store, product, unit) as writer:
        tar = writer.file("clips-000000.tar")
        ...
        receipt = writer.commit(ledger_rows, items=num_clips)

Leaving the block without `commit` leaves nothing behind. Killing the process leaves temporary files at most,
which no reader looks at and the next run sweeps.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.graph import Product, Unit
from pipeline.store import TEMP_FOLDER, StagedFile, Store
from schemas.errors import ReelmillError, StorageError
from schemas.ledger import LEDGER_SCHEMA, STATUSES, LedgerRow
from schemas.receipt import Card, FileEntry, Receipt

SWEEPS = 5
SWEEP_PAUSE_S = 0.1
UNIT_FILE = re.compile(r"(\d{6,})\.[a-z]+$")


def receipt_path(product: str, unit: int) -> str:
    return f"{product}/_receipts/{unit:06d}.json"


def ledger_path(product: str, unit: int) -> str:
    return f"{product}/_ledger/{unit:06d}.parquet"


def load(store: Store, product: str, unit: int) -> Receipt | None:
    """The receipt of a unit, or None where there is none (or none that can be read: then it is made again)."""
    data = store.read_or_none(receipt_path(product, unit))
    if data is None:
        return None
    try:
        return Receipt.model_validate_json(data)
    except ValidationError:
        return None


def standing(store: Store, product: Product, unit: Unit) -> Receipt | None:
    """The receipt of a unit that is complete and not stale, else None."""
    receipt = load(store, product.path, unit.index)
    if receipt is not None and receipt.fingerprint == product.unit_fingerprint(unit):
        return receipt
    return None


def require(store: Store, product: str, unit: Unit, fingerprint: str) -> Receipt:
    """The receipt of an upstream unit. Raises ReelmillError when it is missing or stale."""
    receipt = load(store, product, unit.index)
    if receipt is None or receipt.fingerprint != fingerprint:
        state = "not made yet" if receipt is None else "stale"
        raise ReelmillError(f"{product} unit {unit.index:06d} is {state}: run the whole config, upstream first")
    return receipt


def committed_units(store: Store, product: str) -> list[int]:
    """The indices of all units of a product that have a receipt, stale or not."""
    names = store.files(f"{product}/_receipts")
    return [int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()]


def read_ledger(store: Store, product: str, unit: int) -> list[LedgerRow]:
    """Raises ReelmillError where the ledger of a unit is missing or damaged."""
    path = ledger_path(product, unit)
    try:
        with store.open(path) as file:
            return [LedgerRow(**row) for row in pq.read_table(file).to_pylist()]
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, product, unit, error) from None


def unreadable(path: str, product: str, unit: int, error: object) -> ReelmillError:
    """What to raise where a file of a unit whose receipt stands is not what it should be; `error` says in which way."""
    return ReelmillError(
        f"{path} is missing or damaged ({' '.join(str(error).split())}), though its receipt stands: delete "
        f"{receipt_path(product, unit)} and run again, so that the unit is made anew"
    )


def retract(store: Store, product: str, unit: int) -> None:
    """Take a unit back: its receipt first, so that no reader trusts files that are about to go."""
    receipt = load(store, product, unit)
    store.delete(receipt_path(product, unit))
    for entry in receipt.files if receipt else ():
        store.delete(f"{product}/{entry.path}")


def prune(store: Store, product: str, num_units: int) -> int:
    """Retract the units that the plan no longer has, with any file that a killed writer left of them."""
    surplus = [unit for unit in committed_units(store, product) if unit >= num_units]
    for unit in surplus:
        retract(store, product, unit)
    for folder in (product, f"{product}/_ledger", f"{product}/_index"):
        for name in store.files(folder):
            number = UNIT_FILE.search(name)
            if number and int(number[1]) >= num_units:
                store.delete(f"{folder}/{name}")
    return len(surplus)


def sweep(store: Store, product: str) -> None:
    """Remove what killed writers left behind. One that is still dying may write on there; the next sweep gets that."""
    folder = f"{product}/{TEMP_FOLDER}"
    for _ in range(SWEEPS if store.is_local else 0):
        with suppress(OSError):  # it is not empty after all
            store.delete_folder(folder)
        if not Path(store.path(folder)).exists():
            return
        time.sleep(SWEEP_PAUSE_S)


def write_card(store: Store, card: Card) -> None:
    """Write `_card.json`, unless the same card stands already."""
    data = _json(card.model_dump(mode="json"))
    path = f"{card.product}/_card.json"
    if store.read_or_none(path) != data:
        store.put(path, data)


def read_card(store: Store, product: str) -> Card:
    """Raises ReelmillError where the folder is not a product, or its card is damaged."""
    data = store.read_or_none(f"{product}/_card.json")
    if data is None:
        raise ReelmillError(f"{store.uri}: no product {product!r} here (it has no _card.json)")
    try:
        return Card.model_validate_json(data)
    except ValidationError:
        raise ReelmillError(f"{store.uri}/{product}/_card.json is damaged: `reelmill run` makes it anew") from None


def card_stands(store: Store, product: Product) -> bool:
    """Whether the card on storage is of these very settings."""
    try:
        return read_card(store, product.path).fingerprint == product.fingerprint
    except ReelmillError:
        return False


def _card_is_of_others(store: Store, product: Product) -> bool:
    """Whether the card is of other settings: a run writes it before any unit."""
    try:
        return read_card(store, product.path).fingerprint != product.fingerprint
    except StorageError:  # nothing is known of it
        raise
    except ReelmillError:  # there is none
        return False


class UnitWriter:
    """Collects the files of one unit of one product; see the module's head."""

    def __init__(self, store: Store, product: Product, unit: Unit) -> None:
        self._store = store
        self._product = product
        self._unit = unit
        self._staged: list[StagedFile] = []
        self._names: set[str] = set()

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for staged in self._staged:
            staged.__exit__(kind, error, trace)

    def file(self, name: str) -> BinaryIO:
        """A new file of this unit, for writing; `name` is relative to the product folder."""
        staged = self._store.stage(f"{self._product.path}/{name}")
        self._staged.append(staged)
        self._names.add(name)
        return staged.file

    def table(self, name: str, table: pa.Table) -> None:
        """A new Parquet file of this unit."""
        write_parquet(table, self.file(name))

    def commit(self, ledger: Sequence[LedgerRow], *, items: int, no_longer: Iterable[str] = ()) -> Receipt:
        """Publish all files, then the receipt. Raises ReelmillError unless each input row is accounted for once.

        `no_longer` are files, relative to the product folder, that a unit of other settings may have left here.

        Another may commit the same unit at the same time: a worker that outlives its killed run for a moment, or one
        whose node was given up too soon. Both have the same bytes, so either's files may stand, and neither deletes a
        file that the other may have published.
        """
        counts = Counter(row.status for row in ledger)
        ids = {row.video_id for row in ledger}
        if len(ledger) != self._unit.num_rows or len(ids) != len(ledger) or not set(counts) <= set(STATUSES):
            raise ReelmillError(
                f"{self._product.path} unit {self._unit.index:06d}: {self._unit.num_rows} rows went in but the ledger "
                f"has {len(ledger)} ({len(ids)} distinct): this is a bug in the stage, please report it"
            )
        rows = pa.Table.from_pylist([asdict(row) for row in ledger], schema=LEDGER_SCHEMA)
        self.table(f"_ledger/{self._unit.index:06d}.parquet", rows)
        store, path, fingerprint = self._store, self._product.path, self._product.unit_fingerprint(self._unit)
        standing = load(store, path, self._unit.index)
        if standing is not None and standing.fingerprint == fingerprint:
            return standing  # another was faster
        others = ReelmillError(f"{path} was begun with other settings by another run: let one run end before the next")
        if _card_is_of_others(store, self._product):
            raise others
        self._take_back(standing, no_longer)
        files: list[FileEntry] = [staged.publish() for staged in self._staged]
        if _card_is_of_others(store, self._product):  # sending them may take minutes
            # a receipt of the others that stands by now would vouch for our files: theirs are to be made once more
            store.delete(receipt_path(path, self._unit.index))
            raise others
        receipt = Receipt(
            product=self._product.path,
            unit=self._unit.index,
            fingerprint=fingerprint,
            rows={status: counts.get(status, 0) for status in STATUSES},
            items=items,
            files=tuple(sorted(files, key=lambda entry: entry.path)),
        )
        store.put(receipt_path(path, self._unit.index), _json(receipt.model_dump(mode="json")))
        return receipt

    def _take_back(self, stale: Receipt | None, no_longer: Iterable[str]) -> None:
        """Make room for this unit: away with a stale receipt, then with the files that will not be replaced."""
        path = self._product.path
        if stale is not None:
            self._store.delete(receipt_path(path, self._unit.index))
        files = {entry.path for entry in stale.files} if stale is not None else set()
        for name in sorted({*files, *no_longer} - self._names):
            self._store.delete(f"{path}/{name}")


def begin(store: Store, product: Product, unit: Unit) -> UnitWriter:
    """Start writing one unit of one product."""
    return UnitWriter(store, product, unit)


def write_parquet(table: pa.Table, file: BinaryIO) -> None:
    """Parquet with the settings that all of reelmill's tables share: equal tables give equal bytes."""
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=64 * 1024)
    file.write(buffer.getvalue())


def _json(value: object) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()
