import pytest

from pipeline.annotations.report import Report
from schemas.errors import UsageError


def test_thousands_of_problems_are_few_lines() -> None:
    report = Report()
    for line in range(1, 5001):
        report.add("malformed_row", "a.csv", "want 7 columns", line=line)
    report.add("segment_clipped", "v", "ends late")
    named = "; ".join(f"a.csv line {line}: want 7 columns" for line in (1, 2, 3))
    assert report.lines() == [
        f"5000 × malformed row (dropped): {named}; and 4997 more",
        "1 × segment clipped (kept): v: ends late",
    ]
    assert report.num_dropped == 5000
    assert report.as_json()["segment_clipped"] == {"count": 1, "first": ["v: ends late"]}


def test_what_is_shown_is_short_and_utf8() -> None:
    report = Report()
    report.add("bad_box", "x" * 500 + "\udcff", "e\udcff")
    assert report.lines()[0] == f"1 × bad box (dropped): {'x' * 120}: e\\udcff"


def test_a_file_of_which_nothing_can_be_used_is_refused() -> None:
    report = Report()
    report.require_some(0, "a.csv", "predictions")  # an empty file says that nothing was found
    report.add("no_score", "a.csv", "counts with 1", line=1)
    report.require_some(0, "a.csv", "predictions")
    report.add("unknown_class", "a.csv", "action 77 is not in the action list", line=2)
    report.require_some(1, "a.csv", "predictions")
    with pytest.raises(
        UsageError, match=r"^a\.csv: none of its 1 predictions can be used; unknown class: line 2: action 77"
    ):
        report.require_some(0, "a.csv", "predictions")
