from pipeline.report.counts import (
    REASONS_SHOWN,
    SENTENCES_SHOWN,
    counts_section,
    failed_section,
    is_complete,
    pending_sentences,
)
from pipeline.survey import ProductState, Standing
from schemas.ledger import LedgerRow


def state(path: str, num_standing: int, *, num_stale: int = 0) -> ProductState:
    standing = {unit: Standing((3, 0, 1, 0), 12, 2_500_000) for unit in range(num_standing)}
    return ProductState(path, "f", num_units=3, num_rows=12, standing=standing, num_stale=num_stale)


def lost(count: int, reason: str) -> dict[str, tuple[str, LedgerRow]]:
    return {
        f"{reason}{n}": ("clips/a", LedgerRow("v", "/v", "failed", reason, f"it is {reason}")) for n in range(count)
    }


def test_what_is_pending() -> None:
    states = [state("clips/a", 3), state("clips/b", 1, num_stale=2), state("clips/c", 0)]
    assert [is_complete(states), is_complete(states[:1])] == [False, True]
    assert pending_sentences(states) == [
        "clips/b: 2 of 3 units have to be made, 2 of them anew: what stands is of other settings or inputs.",
        "clips/c: 3 of 3 units have to be made.",
    ]


def test_a_row_for_each_product() -> None:
    (part,) = counts_section([state("clips/a", 3), state("clips/b", 1)]).parts
    assert part.sentences[0].startswith("12 rows in the manifest")
    (table,) = part.tables
    assert table.rows[0] == ("clips/a", "3/3", "9", "0", "3", "0", "36", "7.5")
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_failed_rows_by_reason_the_most_frequent_first() -> None:
    first, *parts = failed_section(lost(2, "missing") | lost(9, "truncated"), is_known=True).parts
    assert first.sentences[0].startswith("11 rows failed")
    assert [part.title for part in parts] == ["truncated: 9 rows", "missing: 2 rows"]
    assert parts[0].sentences == [f"The first {SENTENCES_SHOWN} of 9 rows:"]
    assert len(parts[0].tables[0].rows) == SENTENCES_SHOWN
    assert parts[1].tables[0].rows[0] == ("missing0", "clips/a", "it is missing", "/v")


def test_no_more_reasons_than_a_page_bears() -> None:
    many = {key: row for n in range(REASONS_SHOWN + 2) for key, row in lost(1, f"reason-{n}").items()}
    *_, last = failed_section(many, is_known=True).parts
    assert last.sentences == ["2 more reasons are left out."]


def test_none_failed_is_only_known_at_the_end() -> None:
    assert failed_section({}, is_known=True).parts[0].sentences == ["None."]
    assert failed_section({}, is_known=False).parts[0].sentences == ["None of what was made so far."]
