"""Every file of every receipt, hashed again; files that no receipt claims; and whether the counts agree."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.store import TEMP_FOLDER, Store
from pipeline.threads import num_cores
from pipeline.verify.report import ProductReport
from pipeline.verify.stored import REMOTE_THREADS, Inputs, Stored
from schemas.errors import ReelmillError
from schemas.ledger import STATUSES
from schemas.receipt import FileEntry, Receipt

BLOCK_BYTES = 4 << 20
KNOWN = frozenset({"_card.json", "_preview.png"})  # of a product as such, so no receipt claims them
KNOWN_FOLDERS = frozenset({"_receipts", TEMP_FOLDER})

Progress = Callable[[int], None]


def check_files(
    store: Store, stored: Stored, report: ProductReport, *, hashing: bool, progress: Progress = lambda num_bytes: None
) -> None:
    """Compare all files with their receipts, and name those without one. `progress` is told of bytes that are done.

    Units with a fault are not sound any more. Without `hashing` only sizes are compared.
    """
    entries = [(unit, entry) for unit, receipt in sorted(stored.receipts.items()) for entry in receipt.files]

    def look_at(item: tuple[int, FileEntry]) -> str | None:
        return _fault(store, stored.path, item[1], hashing=hashing, progress=progress)

    with ThreadPoolExecutor(num_cores() if store.is_local else REMOTE_THREADS) as pool:
        for (unit, _), fault in zip(entries, pool.map(look_at, entries), strict=True):
            if fault is not None:
                report.faults.append(fault)
                stored.sound.pop(unit, None)
    report.num_files, report.is_hashed = len(entries), hashing
    report.num_bytes = sum(entry.bytes for _, entry in entries)
    _name_strangers(store, stored, report, claimed={entry.path for _, entry in entries})


def _fault(store: Store, product: str, entry: FileEntry, *, hashing: bool, progress: Progress) -> str | None:
    path = f"{product}/{entry.path}"
    try:
        with store.open(path) as file:
            size = file.size()
            if size < entry.bytes:
                return f"{path} is truncated: {size:,} of its {entry.bytes:,} bytes are there"
            if size > entry.bytes:
                return f"{path} was changed: it has {size:,} bytes, and its receipt says {entry.bytes:,}"
            sha256 = hashlib.sha256()
            while hashing and (block := file.read(BLOCK_BYTES)):
                sha256.update(block)
                progress(len(block))
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is missing"
    except OSError as error:
        return f"{path} can't be read ({error.strerror or error})"
    if hashing and sha256.hexdigest() != entry.sha256:
        return f"{path} was changed: its bytes do not have the sha256 of its receipt"
    return None


def _name_strangers(store: Store, stored: Stored, report: ProductReport, *, claimed: set[str]) -> None:
    for name in _files_below(store, stored.path):
        if name in claimed or name in KNOWN:
            continue
        path = f"{stored.path}/{name}"
        if name.startswith(("_", ".")):
            report.notes.append(f"{path} is claimed by no receipt")
        else:
            report.faults.append(
                f"{path} is claimed by no receipt, and whoever reads the folder reads it too: delete it, or find out "
                "what it is"
            )


def _files_below(store: Store, folder: str, prefix: str = "") -> Iterator[str]:
    for name in store.files(folder):
        yield f"{prefix}{name}"
    for name in store.folders(folder):
        if prefix or name not in KNOWN_FOLDERS:
            yield from _files_below(store, f"{folder}/{name}", f"{prefix}{name}/")


# ---------------------------------------------------------------- counts


def check_counts(store: Store, stored: Stored, inputs: Inputs, report: ProductReport) -> None:
    """Manifest rows = ledger rows, items = rows in files, for each sound unit; one with a fault is sound no more."""
    units = sorted(stored.sound)

    def look_at(unit: int) -> list[str]:
        try:
            return list(_miscounts(store, stored, stored.sound[unit], inputs))
        except ReelmillError as error:
            return [str(error)]

    with ThreadPoolExecutor(1 if store.is_local else REMOTE_THREADS) as pool:
        found = list(pool.map(look_at, units))
    for unit, faults in zip(units, found, strict=True):
        report.faults.extend(f"unit {unit:06d}: {fault}" for fault in faults)
        if faults:
            del stored.sound[unit]


def _miscounts(store: Store, stored: Stored, receipt: Receipt, inputs: Inputs) -> Iterator[str]:
    ledger = receipts.read_ledger(store, stored.path, receipt.unit)
    counts = Counter(row.status for row in ledger)
    if {status: counts[status] for status in STATUSES} != {status: receipt.rows.get(status, 0) for status in STATUSES}:
        yield f"its ledger counts {_words(counts)}, and its receipt {_words(receipt.rows)}"
    units = inputs.units_of(stored)
    if units is not None and receipt.unit < len(units) and units[receipt.unit].num_rows != len(ledger):
        yield f"its ledger has {len(ledger)} rows, and the manifest {units[receipt.unit].num_rows}"
    num_items = sum(row.num_items for row in ledger)
    if num_items != receipt.items:
        yield f"its ledger counts {num_items} items, and its receipt {receipt.items}"
    for name, num_rows in _row_counts(store, stored, receipt):
        if num_rows != receipt.items:
            yield f"{name} has {num_rows} rows, and its receipt says {receipt.items} items"


def _row_counts(store: Store, stored: Stored, receipt: Receipt) -> Iterator[tuple[str, int]]:
    """The tables with a row an item."""
    if stored.kind == "heads":
        return
    for entry in receipt.files:
        if entry.path.startswith(("_index/", "part-")):
            path = f"{stored.path}/{entry.path}"
            try:
                with store.open(path) as file:
                    yield path, pq.ParquetFile(file).metadata.num_rows
            except (OSError, pa.ArrowInvalid) as error:
                raise receipts.unreadable(path, stored.path, receipt.unit, error) from None


def _words(counts: Counter[str] | dict[str, int] | Iterable[str]) -> str:
    as_counts = Counter(counts)
    return ", ".join(f"{as_counts[status]} {status}" for status in STATUSES)
