import pytest

from pipeline import receipts
from pipeline.graph import Plan, Product, Unit
from pipeline.store import Store
from pipeline.survey import failed_rows, survey
from schemas.ledger import LedgerRow

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


def test_changed_settings_make_everything_downstream_stale(store) -> None:
    clips, features = survey(store, plan(fps=9))
    assert (clips.num_stale, clips.pending, features.num_stale, features.pending) == (2, 3, 1, 3)


def test_a_row_that_fails_in_two_products_is_one_failed_row(store) -> None:
    failed = failed_rows(store, survey(store, plan()))
    assert set(failed) == {"v1"}
    assert failed["v1"][0] == "clips/c"
    assert failed["v1"][1].message == "no such file"
