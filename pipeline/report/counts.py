"""How much of each product stands, and which rows failed, of what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pipeline.report.page import Cells, Part, Section
from pipeline.survey import ProductState
from schemas.ledger import STATUSES, LedgerRow

SENTENCES_SHOWN = 5  # of each reason
REASONS_SHOWN = 20


def is_complete(states: Sequence[ProductState]) -> bool:
    return not any(state.pending for state in states)


def pending_sentences(states: Sequence[ProductState]) -> list[str]:
    """A line for each product of which something is not made, or stands for other settings."""
    return [
        f"{state.path}: {state.pending} of {state.num_units} units have to be made"
        + (f", {state.num_stale} of them anew: what stands is of other settings or inputs" if state.num_stale else "")
        + "."
        for state in states
        if state.pending
    ]


def counts_section(states: Sequence[ProductState]) -> Section:
    rows = [
        (
            state.path,
            f"{len(state.standing):,}/{state.num_units:,}",
            *(f"{state.rows[status]:,}" for status in STATUSES),
            f"{state.items:,}",
            f"{state.bytes / 1e6:,.1f}",
        )
        for state in states
    ]
    columns = ("product", "units", *STATUSES, "items", "MB")
    return Section("Counts", [Part(sentences=[_inputs(states)], tables=[Cells(columns, rows)])])


def _inputs(states: Sequence[ProductState]) -> str:
    rows = states[0].num_rows if states else 0
    return f"{rows:,} rows in the manifest; each is ok, partial, failed or filtered in each product that is complete."


def failed_section(lost: Mapping[str, tuple[str, LedgerRow]], *, is_known: bool) -> Section:
    """Rows that failed, by reason, with the first sentences; `is_known`: nothing is pending."""
    if not lost:
        return Section("Failed rows", [Part(sentences=["None." if is_known else "None of what was made so far."])])
    by_reason: dict[str, list[tuple[str, str, LedgerRow]]] = defaultdict(list)
    for video_id, (product, row) in sorted(lost.items()):
        by_reason[row.reason].append((video_id, product, row))
    reasons = sorted(by_reason, key=lambda reason: (-len(by_reason[reason]), reason))
    parts = [_reason(reason, by_reason[reason]) for reason in reasons[:REASONS_SHOWN]]
    if len(reasons) > REASONS_SHOWN:
        parts.append(Part(sentences=[f"{len(reasons) - REASONS_SHOWN} more reasons are left out."]))
    said = f"{len(lost):,} {'row' if len(lost) == 1 else 'rows'} failed; `reelmill status --failed` lists every one."
    return Section("Failed rows", [Part(sentences=[said]), *parts])


def _reason(reason: str, rows: Sequence[tuple[str, str, LedgerRow]]) -> Part:
    shown = [(video_id, product, row.message, row.uri) for video_id, product, row in rows[:SENTENCES_SHOWN]]
    more = f"The first {SENTENCES_SHOWN} of {len(rows):,} rows:" if len(rows) > SENTENCES_SHOWN else ""
    count = f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}"
    table = Cells(("video", "product", "what is wrong", "file"), shown, num_texts=4)
    return Part(f"{reason or 'no reason'}: {count}", [more] if more else [], [table])
