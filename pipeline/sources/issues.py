"""What an index run could not use as it stands: counted, listed and written beside the manifest."""

from __future__ import annotations

from array import array
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline.annotations.report import Problem, Report
from pipeline.secrets import redacted

IssueKind = Literal[
    "row_without_file",  # a row of the list names a video that is not there
    "file_without_row",  # a video that no row of the list names
    "duplicate_row",  # a later row for a video that has one
    "malformed_row",  # a row that can't be read
    "bad_segment",  # a labelled segment that is empty, inverted or not a pair of times; a bad box
    "unreadable_folder",
    "unreadable_file",
    "name_not_utf8",  # a manifest holds UTF-8 text only
]

ISSUE_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("line", pa.int64()),  # 1-based line of the list, where there is one
        pa.field("value", pa.string(), nullable=False),  # the row or the file
        pa.field("detail", pa.string(), nullable=False),
    ]
)

# a problem of an annotation that is none of these is one of a segment's or a box's
_ISSUE_OF: dict[Problem, IssueKind] = {
    "duplicate_row": "duplicate_row",
    "malformed_row": "malformed_row",
    "unreadable_file": "unreadable_file",
}
_MAX_VALUE = 300  # characters of a malformed row that are worth keeping


class Issues:
    """Collects issues in any order; `table` has them in a fixed one."""

    def __init__(self) -> None:
        self._kinds: list[str] = []
        self._lines = array("q")
        self._values: list[str] = []
        self._details: list[str] = []

    def add(self, kind: IssueKind, value: str, detail: str, *, line: int | None = None) -> None:
        """Note one issue; `line` is 1-based."""
        self._kinds.append(kind)
        self._lines.append(line or 0)
        self._values.append(_printable(redacted(value)[:_MAX_VALUE]))
        self._details.append(_printable(redacted(detail)))

    def table(self) -> pa.Table:
        """All issues (ISSUE_SCHEMA), sorted by kind, line, value and detail."""
        lines = np.frombuffer(self._lines, np.int64)
        columns = [
            pa.array(self._kinds, pa.string()),
            pa.array(lines, mask=lines == 0),
            pa.array(self._values, pa.string()),
            pa.array(self._details, pa.string()),
        ]
        table = pa.Table.from_arrays(columns, schema=ISSUE_SCHEMA)
        return table.sort_by([(name, "ascending") for name in ("kind", "line", "value", "detail")])


class AnnotationIssues(Report):
    """A report of a reader of annotations whose problems go to an index's issues, too."""

    def __init__(self, issues: Issues) -> None:
        super().__init__()
        self._issues = issues

    def add(self, kind: Problem, value: str, detail: str, *, line: int | None = None) -> None:
        super().add(kind, value, detail, line=line)
        self._issues.add(_ISSUE_OF.get(kind, "bad_segment"), value, detail, line=line)


def _printable(text: str) -> str:
    """Names that are not UTF-8 come from the system with surrogates; they are listed as \\udcXX."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
