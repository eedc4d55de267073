from pipeline.sources.issues import ISSUE_SCHEMA, AnnotationIssues, Issues


def test_order_is_by_kind_line_and_value_whatever_came_first() -> None:
    entries = [("row_without_file", "b", 10), ("row_without_file", "a", 9), ("file_without_row", "z", None)]
    entries += [("file_without_row", "y", None), ("row_without_file", "c", 9)]
    tables = []
    for order in (entries, entries[::-1]):
        issues = Issues()
        for kind, value, line in order:
            issues.add(kind, value, "why", line=line)
        tables.append(issues.table())
    assert tables[0] == tables[1]
    assert tables[0].schema == ISSUE_SCHEMA
    found = [(row["kind"], row["line"], row["value"]) for row in tables[0].to_pylist()]
    assert found == [
        ("file_without_row", None, "y"),
        ("file_without_row", None, "z"),
        ("row_without_file", 9, "a"),
        ("row_without_file", 9, "c"),
        ("row_without_file", 10, "b"),
    ]


def test_no_issue_is_an_empty_table() -> None:
    assert Issues().table() == ISSUE_SCHEMA.empty_table()


def test_values_are_short_and_printable() -> None:
    issues = Issues()
    issues.add("malformed_row", "x" * 10_000, "bad \udcff")
    (row,) = issues.table().to_pylist()
    assert len(row["value"]) == 300
    assert row["detail"] == r"bad \udcff"


def test_problems_of_annotations_are_issues() -> None:
    issues = Issues()
    report = AnnotationIssues(issues)
    report.add("inverted_segment", "v", "run: segment [2, 1] is inverted")
    report.add("malformed_row", "a.csv", "want 7 columns", line=3)
    assert issues.table().to_pylist() == [
        {"kind": "bad_segment", "line": None, "value": "v", "detail": "run: segment [2, 1] is inverted"},
        {"kind": "malformed_row", "line": 3, "value": "a.csv", "detail": "want 7 columns"},
    ]
    assert report.counts == {"inverted_segment": 1, "malformed_row": 1}
