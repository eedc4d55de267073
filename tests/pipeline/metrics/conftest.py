"""Tables of segments from rows, for the temporal metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pytest

from schemas.annotation import SegmentTable


class MakeTable(Protocol):
    def __call__(
        self, rows: object, *, videos: Sequence[str] | None = None, labels: Sequence[str] | None = None
    ) -> SegmentTable: ...


def _name(what: str, index: int) -> str:
    return f"{what}_{(7 * index + 3) % 101:03d}"  # as tests/golden/metrics/temporal_cases.py names them


@pytest.fixture(scope="session")
def table_of() -> MakeTable:
    """Rows (N, 4) video, label, start_s, end_s make truth; (N, 5), with a score, predictions."""

    def make(rows: object, *, videos: Sequence[str] | None = None, labels: Sequence[str] | None = None) -> SegmentTable:
        columns = np.array(rows, np.float64)
        return SegmentTable(
            video=columns[:, 0].astype(np.int64),
            label=columns[:, 1].astype(np.int64),
            start_s=columns[:, 2],
            end_s=columns[:, 3],
            score=columns[:, 4] if columns.shape[1] == 5 else None,
            videos=tuple(videos if videos is not None else (_name("video", index) for index in range(100))),
            labels=tuple(labels if labels is not None else (_name("class", index) for index in range(10))),
        )

    return make
