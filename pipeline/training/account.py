"""What became of every manifest row in a head: its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.training.sequences import Ledgers
from schemas.ledger import LedgerRow
from schemas.manifest import VideoRow


class LeftOut(NamedTuple):
    """Why a head has no use for a row: a short class, and a sentence."""

    reason: str
    message: str


def account(
    rows: Sequence[VideoRow],
    ledgers: Ledgers,
    *,
    left_out: Mapping[str, LeftOut],
    num_items: Mapping[str, int],
    nothing: LeftOut,
) -> list[LedgerRow]:
    """One ledger row per manifest row. What failed or was filtered upstream stays so; what was cut short is partial.

    `left_out` and `num_items` go by video_id; a row that is in neither, or has no items, is filtered as `nothing`.
    """
    ledger = []
    for row, *above in zip(rows, *ledgers.values(), strict=True):
        found = dict(zip(ledgers, above, strict=True))
        why = left_out.get(row.video_id)
        ledger.append(_account_one(row, found, why, int(num_items.get(row.video_id, 0)), nothing))
    return ledger


def _account_one(
    row: VideoRow, above: Mapping[str, LedgerRow], why: LeftOut | None, num_items: int, nothing: LeftOut
) -> LedgerRow:
    for status in ("failed", "filtered"):
        for path, upstream in above.items():
            if upstream.status == status:
                message = f"{path}: {upstream.message or upstream.reason}"
                return LedgerRow(row.video_id, row.uri, status, "upstream", message)
    if why is not None or num_items == 0:
        reason, message = why or nothing
        return LedgerRow(row.video_id, row.uri, "filtered", reason, message)
    for path, upstream in above.items():
        if upstream.status == "partial":
            message = f"{path}: {upstream.message or upstream.reason}"
            return LedgerRow(row.video_id, row.uri, "partial", "upstream", message, num_items)
    return LedgerRow(row.video_id, row.uri, "ok", num_items=num_items)
