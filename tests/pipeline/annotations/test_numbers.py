import math

import pytest

from pipeline.annotations.numbers import finite, is_id


def test_numbers() -> None:
    assert finite(" -1.5e2 ", "x") == -150
    assert math.isnan(finite("nan", "x", nan=True))


@pytest.mark.parametrize("cell", ["", "x", "nan", "inf", "1e999", "1_0", "0x1", "1 2"])
def test_other_cells_are_no_numbers(cell) -> None:
    with pytest.raises(ValueError, match=f"length '{cell}' is not a finite number"):
        finite(cell, "length")


def test_ids() -> None:
    assert [cell for cell in ("0", "007", str(2**63 - 1)) if not is_id(cell)] == []
    assert [cell for cell in ("", "-1", "1.0", "²", "١", str(2**63), "9" * 5000) if is_id(cell)] == []
