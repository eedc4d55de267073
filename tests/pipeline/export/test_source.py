"""Only whole products are read, and what is missing or damaged is one sentence that says what to do."""

from pathlib import Path

import pytest

from pipeline import receipts
from pipeline.export.source import index_rows, require_whole, samples
from schemas.errors import ReelmillError


def test_a_whole_product_is_read(made) -> None:
    data = made([25, 25, 25])
    require_whole(data.store, data.flow, data.plan.units)
    first, second = data.plan.units
    assert [row["clip_id"] for row in index_rows(data.store, data.flow, first, ["clip_id"])] == [
        key for key, _ in samples(data.store, data.flow, first)
    ]
    assert [key for key, _ in samples(data.store, data.clips, second)] == ["v2@0-1000000"]


def test_missing_and_stale_units(made) -> None:
    data = made([10, 10, 10], per_unit=1)
    other = made([10, 10, 10], per_unit=1, flow={"bound": 10})
    path = Path(data.store.path(receipts.receipt_path("flow/f", 1)))
    path.write_bytes(Path(other.store.path(receipts.receipt_path("flow/f", 1))).read_bytes())
    receipts.retract(data.store, "flow/f", 0)
    with pytest.raises(ReelmillError) as error:
        require_whole(data.store, data.flow, data.plan.units)
    assert str(error.value) == (
        "flow/f: 2 of its 3 units are still to be made (1 of them stale); finish it with `reelmill run`, then export it"
    )


def test_an_index_that_is_missing_or_damaged(made) -> None:
    data = made([10])
    path = Path(data.store.path("flow/f/_index/000000.parquet"))
    for damage in (lambda: path.write_bytes(b"PAR1"), path.unlink):
        damage()
        with pytest.raises(ReelmillError, match=r"_index/000000.parquet is missing or damaged .* run again"):
            index_rows(data.store, data.flow, data.plan.units[0], ["clip_id"])
