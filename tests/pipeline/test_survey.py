import pyarrow as pa
import pytest

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from pipeline.survey import ProductState, Standing, failed_rows, flow_losses, survey, survey_product
from schemas.errors import ReelmillError
from schemas.ledger import LedgerRow
from schemas.receipt import Card

UNITS = (Unit(0, 0, 1, "a"), Unit(1, 1, 1, "b"), Unit(2, 2, 1, "c"))


def plan(**settings) -> Plan:
    clips = Product("clips", "c", settings, {}, 1)
    features = Product("features", "f", {}, {"clips/c": clips.fingerprint}, 1)
    return Plan((clips, features), UNITS)


def make(store: Store, product: Product, unit: Unit, row: LedgerRow) -> None:
    with receipts.begin(store, product, unit) as writer:
        writer.file(f"x-{unit.index:06d}.tar").write(b"12345")
        writer.commit([row], items=row.num_items)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(str(tmp_path))
    clips, features = plan().products
    make(store, clips, UNITS[0], LedgerRow("v0", "/v0", "ok", num_items=3))
    make(store, clips, UNITS[1], LedgerRow("v1", "/v1", "failed", "missing", "no such file"))
    make(store, features, UNITS[1], LedgerRow("v1", "/v1", "failed", "upstream", "see clips/c"))
    return store


def test_what_stands(store) -> None:
    clips, features = survey(store, plan())
    assert (clips.num_units, clips.pending, clips.num_stale, clips.items) == (3, 1, 0, 3)
    assert clips.rows == {"ok": 1, "failed": 1, "partial": 0, "filtered": 0}
    assert features.pending == 2
    assert clips.bytes > 10  # two shards of five bytes, and two ledgers


def test_what_is_kept_of_a_receipt_is_small(store) -> None:
    """A dataset has 100,000 units, and receipts may name dozens of files each."""
    clips, _ = survey(store, plan())
    ledger = (store.read("clips/c/_ledger/000000.parquet"), b"12345")
    assert clips.standing[0] == Standing(counts=(1, 0, 0, 0), items=3, bytes=sum(map(len, ledger)))
    assert clips.standing[1].rows == {"ok": 0, "partial": 0, "failed": 1, "filtered": 0}
    assert clips.standing[1].num_failed == 1


def test_changed_settings_make_everything_downstream_stale(store) -> None:
    clips, features = survey(store, plan(fps=9))
    assert (clips.num_stale, clips.pending, features.num_stale, features.pending) == (2, 3, 1, 3)


def test_a_row_that_fails_in_two_products_is_one_failed_row(store) -> None:
    failed = failed_rows(store, survey(store, plan()))
    assert set(failed) == {"v1"}
    assert failed["v1"][0] == "clips/c"
    assert failed["v1"][1].message == "no such file"


# ---------------------------------------------------------------- what flow has lost


def flow_product(store: Store, rows: list[list[dict]], *, encoding: str = "jpeg") -> ProductState:
    """A flow product with one unit for each list of index rows."""
    product = Product("flow", "f", {"bound": 20.0, "encoding": encoding}, {}, 1)
    facts = {"product": "flow/f", "fingerprint": product.fingerprint, "code_version": 1, "upstream": {}}
    receipts.write_card(store, Card(**facts, settings=dict(product.settings), details={}, versions={}))
    units = [Unit(index, index, 1, f"{index}") for index in range(len(rows))]
    for unit, of_unit in zip(units, rows, strict=True):
        with receipts.begin(store, product, unit) as writer:
            writer.table(f"_index/{unit.index:06d}.parquet", pa.Table.from_pylist(of_unit))
            writer.commit([LedgerRow(f"v{unit.index}", "/v", "ok")], items=len(of_unit))
    return survey_product(store, product, units)


def of_clip(num_real_fields: int, saturated: float, rmse_px: float, max_abs_px: float) -> dict:
    return {
        "num_real_fields": num_real_fields,
        "saturated": saturated,
        "rmse_px": rmse_px,
        "max_abs_px": max_abs_px,
    }


def test_loss_over_clips_counts_fields(tmp_path) -> None:
    store = Store(str(tmp_path))
    state = flow_product(store, [[of_clip(1, 0.4, 3, 5), of_clip(3, 0, 1, 50)], [], [of_clip(4, 0.2, 0, 9)]])
    (loss,) = flow_losses(store, [state]).values()
    assert (loss.num_units, loss.bound_px, loss.is_quantised, loss.max_abs_px) == (2, 20, True, 50)
    assert loss.saturated == pytest.approx((0.4 + 4 * 0.2) / 8)
    assert loss.rmse_px == pytest.approx(((9 + 3) / 8) ** 0.5)


def test_a_large_product_is_looked_at_in_places(tmp_path) -> None:
    store = Store(str(tmp_path))
    state = flow_product(store, [[of_clip(1, 0, 0, index)] for index in range(130)], encoding="npy")
    (loss,) = flow_losses(store, [state]).values()
    assert (loss.num_units, loss.is_quantised) == (64, False)
    assert loss.max_abs_px > 120


def test_an_index_that_is_gone_is_passed_over_and_a_damaged_one_is_named(tmp_path) -> None:
    store = Store(str(tmp_path))
    state = flow_product(store, [[of_clip(1, 0, 0, 5)], [of_clip(1, 0, 0, 9)]])
    path = tmp_path / "flow/f/_index/000001.parquet"
    whole = path.read_bytes()
    path.unlink()
    (loss,) = flow_losses(store, [state]).values()
    assert (loss.num_units, loss.max_abs_px) == (1, 5)
    for damaged in (whole[:100], whole[:4] + bytes(len(whole) - 100) + whole[-96:]):
        path.write_bytes(damaged)
        with pytest.raises(
            ReelmillError, match=r"000001.parquet is missing or damaged .*_receipts/000001.json and run again"
        ):
            flow_losses(store, [state])


def test_no_flow_no_loss(store, tmp_path) -> None:
    assert flow_losses(store, survey(store, plan())) == {}
    assert flow_losses(store, [flow_product(Store(str(tmp_path / "f")), [[]])]) == {}
