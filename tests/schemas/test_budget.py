"""Allowances: counts, or shares of a total."""

import pytest
from pydantic import ValidationError

from schemas.budget import Budget, allowed


@pytest.mark.parametrize(
    ("allowance", "total", "expected"), [(0, 10, 0), (3, 10, 3), ("2%", 149, 2), ("0.5%", 1000, 5), ("100%", 7, 7)]
)
def test_how_many_may_go(allowance: int | str, total: int, expected: int) -> None:
    assert allowed(allowance, total) == expected
    assert Budget(failed=allowance).rows(total) == expected


@pytest.mark.parametrize("allowance", [-1, "2", "101%", "%", "two%", "1.2.3%"])
def test_what_is_no_allowance(allowance: int | str) -> None:
    with pytest.raises(ValidationError, match="count of rows"):
        Budget(failed=allowance)
