"""The ledger: one row per manifest row per product. ok + partial + failed + filtered = manifest rows, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

Status = Literal["ok", "partial", "failed", "filtered"]
STATUSES: tuple[Status, ...] = get_args(Status)

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # a short class such as "truncated"; "" when ok
        pa.field("message", pa.string(), nullable=False),  # one sentence for a person; "" when ok
        pa.field("num_items", pa.int64(), nullable=False),  # clips, feature rows … that this video gave
    ]
)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What became of one input video in one product. Holds no clock time: equal work gives equal bytes."""

    video_id: str
    uri: str
    status: Status
    reason: str = ""
    message: str = ""
    num_items: int = 0
