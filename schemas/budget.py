"""How much may be missing and still count as success."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from schemas.section import Section


def _check(value: int | str) -> int | str:
    if isinstance(value, int) and value < 0:
        raise ValueError(f"a count of rows can't be negative, got {value}")
    if isinstance(value, str):
        number = value[:-1] if value.endswith("%") else ""
        if not number.replace(".", "", 1).isdigit() or float(number) > 100:
            raise ValueError(f'write a count of rows or a share such as "2%", got {value!r}')
    return value


Allowance = Annotated[int | str, AfterValidator(_check)]  # a count, or a share such as "2%"


def allowed(allowance: int | str, total: int) -> int:
    """How many of `total` an allowance lets go."""
    if isinstance(allowance, int):
        return allowance
    return int(total * float(allowance[:-1]) / 100)


class Budget(Section):
    """How many failed rows still count as success."""

    failed: Allowance = 0

    def rows(self, num_rows: int) -> int:
        """The number of failed rows allowed among `num_rows`."""
        return allowed(self.failed, num_rows)
