"""What stands on storage, product by product: the base of `status`, of resume and of the exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from schemas.ledger import LedgerRow
from schemas.receipt import Receipt


@dataclass
class ProductState:
    """One product against its plan."""

    path: str
    fingerprint: str
    num_units: int
    num_rows: int
    standing: dict[int, Receipt] = field(default_factory=dict)  # unit index -> receipt
    num_stale: int = 0

    @property
    def pending(self) -> int:
        """Units that have to be made: never made, or stale."""
        return self.num_units - len(self.standing)

    @property
    def rows(self) -> Counter[str]:
        """Ledger rows per status, of the units that stand."""
        return receipts.total(self.standing.values())

    @property
    def items(self) -> int:
        return sum(receipt.items for receipt in self.standing.values())

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for receipt in self.standing.values() for entry in receipt.files)


@dataclass(frozen=True, slots=True)
class Progress:
    """One unit of one product was finished, or found finished."""

    product: str
    unit: int
    num_rows: int
    num_failed: int


def survey_product(store: Store, product: Product, units: Sequence[Unit]) -> ProductState:
    """Compare the receipts of one product with its plan."""
    state = ProductState(product.path, product.fingerprint, len(units), sum(unit.num_rows for unit in units))
    present = set(receipts.committed_units(store, product.path))
    made = [unit for unit in units if unit.index in present]
    # receipts are small: locally a loop is fastest, on an object store the latency wants many at once
    with ThreadPoolExecutor(1 if store.is_local else 32) as pool:
        for unit, receipt in zip(made, pool.map(lambda u: receipts.standing(store, product, u), made), strict=True):
            if receipt is not None:
                state.standing[unit.index] = receipt
            else:
                state.num_stale += 1
    return state


def survey(store: Store, plan: Plan) -> list[ProductState]:
    """Compare every product of a plan with what stands on storage."""
    return [survey_product(store, product, plan.units_of(product)) for product in plan.products]


def failed_rows(store: Store, states: Sequence[ProductState]) -> dict[str, tuple[str, LedgerRow]]:
    """video_id -> (first product it failed in, its ledger row), over all units that stand."""
    failed: dict[str, tuple[str, LedgerRow]] = {}
    for state in states:
        for index, receipt in state.standing.items():
            if receipt.rows.get("failed"):
                for row in receipts.read_ledger(store, state.path, index):
                    if row.status == "failed":
                        failed.setdefault(row.video_id, (state.path, row))
    return failed
