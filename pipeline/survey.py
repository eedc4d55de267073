"""What stands on storage, product by product: the base of `status`, of resume and of the exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import fsum, sqrt
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from schemas.ledger import STATUSES, LedgerRow
from schemas.receipt import Receipt

REMOTE_THREADS = 64  # on an object store the latency wants many requests at once
READ_AT_ONCE = 4096  # receipts under way; the whole of each is in memory until it was looked at


@dataclass(frozen=True, slots=True)
class Standing:
    """What is kept of a receipt that stands: a dataset has 100,000 of them, and each may name dozens of files."""

    counts: tuple[int, ...]  # ledger rows, in the order of STATUSES
    items: int
    bytes: int

    @classmethod
    def of(cls, receipt: Receipt) -> Standing:
        counts = tuple(receipt.rows.get(status, 0) for status in STATUSES)
        return cls(counts, receipt.items, sum(entry.bytes for entry in receipt.files))

    @property
    def rows(self) -> dict[str, int]:
        return dict(zip(STATUSES, self.counts, strict=True))

    @property
    def num_failed(self) -> int:
        return self.counts[STATUSES.index("failed")]


@dataclass
class ProductState:
    """One product against its plan."""

    path: str
    fingerprint: str
    num_units: int
    num_rows: int
    standing: dict[int, Standing] = field(default_factory=dict)  # by unit index
    num_stale: int = 0

    @property
    def pending(self) -> int:
        """Units that have to be made: never made, or stale."""
        return self.num_units - len(self.standing)

    @property
    def rows(self) -> Counter[str]:
        """Ledger rows per status, of the units that stand."""
        sums = [sum(column) for column in zip(*(made.counts for made in self.standing.values()), strict=True)]
        return Counter(dict(zip(STATUSES, sums or [0] * len(STATUSES), strict=True)))

    @property
    def items(self) -> int:
        return sum(made.items for made in self.standing.values())

    @property
    def bytes(self) -> int:
        return sum(made.bytes for made in self.standing.values())


def survey_product(store: Store, product: Product, units: Sequence[Unit]) -> ProductState:
    """Compare the receipts of one product with its plan."""
    state = ProductState(product.path, product.fingerprint, len(units), sum(unit.num_rows for unit in units))
    present = set(receipts.committed_units(store, product.path))
    made = [unit for unit in units if unit.index in present]
    # receipts are small: locally a loop is fastest
    with ThreadPoolExecutor(1 if store.is_local else REMOTE_THREADS) as pool:
        for first in range(0, len(made), READ_AT_ONCE):
            some = made[first : first + READ_AT_ONCE]
            for unit, found in zip(some, pool.map(lambda u: _standing(store, product, u), some), strict=True):
                if found is not None:
                    state.standing[unit.index] = found
                else:
                    state.num_stale += 1
    return state


def _standing(store: Store, product: Product, unit: Unit) -> Standing | None:
    receipt = receipts.standing(store, product, unit)
    return None if receipt is None else Standing.of(receipt)


def survey(store: Store, plan: Plan, *, kinds: Collection[str] | None = None) -> list[ProductState]:
    """Compare every product of a plan, or those of some kinds, with what stands on storage."""
    products = [product for product in plan.products if kinds is None or product.kind in kinds]
    return [survey_product(store, product, plan.units_of(product)) for product in products]


def failed_rows(store: Store, states: Sequence[ProductState]) -> dict[str, tuple[str, LedgerRow]]:
    """video_id -> (first product it failed in, its ledger row), over all units that stand."""
    failed: dict[str, tuple[str, LedgerRow]] = {}
    for state in states:
        for index, made in state.standing.items():
            if made.num_failed:
                for row in receipts.read_ledger(store, state.path, index):
                    if row.status == "failed":
                        failed.setdefault(row.video_id, (state.path, row))
    return failed


# ---------------------------------------------------------------- what stored flow has lost

UNITS_LOOKED_AT = 64  # their indices are small, but a dataset may have thousands
LOSS_COLUMNS = ["num_real_fields", "saturated", "rmse_px", "max_abs_px"]


@dataclass(frozen=True, slots=True)
class FlowLoss:
    """Over the real fields of the clips looked at; see schemas.flow."""

    num_units: int  # looked at, spread evenly over those that stand
    bound_px: float
    is_quantised: bool  # where it is not, nothing is cut at the bound
    saturated: float
    rmse_px: float
    max_abs_px: float


def flow_losses(store: Store, states: Sequence[ProductState]) -> dict[str, FlowLoss]:
    """Product path -> how well its bound fits, for each flow product that holds a clip."""
    losses = {state.path: _flow_loss(store, state) for state in states if state.path.startswith("flow/")}
    return {path: loss for path, loss in losses.items() if loss is not None}


def _flow_loss(store: Store, state: ProductState) -> FlowLoss | None:
    filled = [unit for unit, made in sorted(state.standing.items()) if made.items]
    count = min(len(filled), UNITS_LOOKED_AT)
    units = [_losses_of(store, state.path, filled[i * len(filled) // count]) for i in range(count)]
    rows = [row for unit in units for row in unit]
    if not rows:
        return None
    settings = receipts.read_card(store, state.path).settings
    num_fields = fsum(row["num_real_fields"] for row in rows)
    return FlowLoss(
        num_units=sum(map(bool, units)),
        bound_px=settings["bound"],
        is_quantised=settings["encoding"] != "npy",
        saturated=fsum(row["num_real_fields"] * row["saturated"] for row in rows) / num_fields,
        rmse_px=sqrt(fsum(row["num_real_fields"] * row["rmse_px"] ** 2 for row in rows) / num_fields),
        max_abs_px=max(row["max_abs_px"] for row in rows),
    )


def _losses_of(store: Store, product: str, unit: int) -> list[dict[str, float]]:
    """The losses of each clip of a unit; none where it is gone. Raises ReelmillError where its index is damaged."""
    path = f"{product}/_index/{unit:06d}.parquet"
    try:
        with store.open(path) as file:
            return cast(list[dict[str, float]], pq.read_table(file, columns=LOSS_COLUMNS).to_pylist())
    except FileNotFoundError:
        return []  # a run may be making it anew right now
    except (OSError, pa.ArrowInvalid) as error:
        raise receipts.unreadable(path, product, unit, error) from None
