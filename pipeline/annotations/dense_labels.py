"""Dense labels: many overlapping segments of one video.

multithumos  a folder of <Class>.txt: video start_s end_s, read as THUMOS14's folder is
charades     csv with the columns id, actions ("c092 11.9 21.2;c147 0.0 12.6") and length; classes: "c000 Holding …"

| what is wrong | what is done |
|---|---|
| not such a csv, a list of classes of another form | refused |
| a line not UTF-8, without an id or with too few columns | the line is dropped |
| a video that stands there twice | the first line is kept |
| an action of another form | dropped |
| a class that the list of classes does not have | dropped and counted |
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping

from pipeline.annotations.columns import SegmentColumns
from pipeline.annotations.numbers import finite
from pipeline.annotations.report import Report
from pipeline.annotations.thumos14 import read_folder as read_multithumos
from pipeline.textlist import check_utf8, read_lines
from schemas.annotation import SegmentTable
from schemas.errors import UsageError

__all__ = ["read_charades", "read_classes", "read_multithumos"]

_CODE = re.compile(r"c\d+")


def read_classes(path: str) -> dict[str, str]:
    """Charades' classes, code -> name. Raises UsageError where a line is not `c000 name` or says something twice."""
    names: dict[str, str] = {}
    for line, text in read_lines(path):
        code, _, name = text.strip().partition(" ")
        if not code:
            continue
        try:
            check_utf8(text)
        except ValueError as error:
            raise UsageError(f"{path} line {line}: {error}") from None
        if not _CODE.fullmatch(code) or not name.strip():
            raise UsageError(f"{path} line {line}: want a code and a name (c000 Holding some clothes), got {text!r}")
        if code in names or name.strip() in names.values():
            raise UsageError(f"{path} line {line}: {text!r} stands there twice")
        names[code] = name.strip()
    return names


def read_charades(path: str, *, classes: Mapping[str, str] | None = None, report: Report | None = None) -> SegmentTable:
    """The actions of a Charades csv, in its order. Labels are the names of `classes` in their order (`read_classes`),
    without it the codes that are found, sorted. The subset is told from the file's name. Raises UsageError where it is
    not such a csv."""
    report = report or Report()
    rows = list(_rows(path, report))
    codes = classes or {code: code for code in sorted({action[2] for row in rows for action in row[2]})}
    columns = SegmentColumns([name for name, *_ in rows], list(codes.values()))
    for name, _, actions in rows:
        for start_s, end_s, code in actions:
            if code in codes:
                columns.add(name, start_s, end_s, codes[code])
            else:
                report.add("unknown_class", name, f"{code} is not in the list of classes")
    file_name = path.partition("?")[0].rpartition("/")[2].lower()
    subset = next((known for known in ("training", "test") if known.removesuffix("ing") in file_name), None)
    return columns.table(subset=[subset] * len(rows), duration_s=[length_s for _, length_s, _ in rows])


def _rows(path: str, report: Report) -> Iterator[tuple[str, float, list[tuple[float, float, str]]]]:
    """(video, length_s or NaN, actions) of each line."""
    lines = (text + "\n" for _, text in read_lines(path))
    reader = csv.reader(lines, strict=True)
    header = _next(reader, path) or []
    if missing := [name for name in ("id", "actions") if name not in header]:
        raise UsageError(f"{path}: not a Charades csv: it has no column {missing[0]}")
    seen: set[str] = set()
    while (cells := _next(reader, path)) is not None:
        if not cells:
            continue
        try:
            check_utf8("".join(cells))
            row = dict(zip(header, cells, strict=False))
            if len(cells) != len(header) or not row["id"]:
                raise ValueError(f"want {len(header)} columns, an id among them")
        except ValueError as error:
            report.add("malformed_row", path, str(error), line=reader.line_num)
            continue
        name = row["id"]
        if name in seen:
            report.add("duplicate_row", name, "an earlier line has this video; that one is kept", line=reader.line_num)
            continue
        seen.add(name)
        yield name, _length_s(row.get("length")), list(_actions(name, row["actions"], report))


def _next(reader: Iterator[list[str]], path: str) -> list[str] | None:
    """The next row, None after the last. Raises UsageError where the text is not csv."""
    try:
        return next(reader, None)
    except csv.Error as error:
        raise UsageError(f"{path}: not csv ({error})") from None


def _length_s(cell: str | None) -> float:
    try:
        length_s = finite(cell or "", "length")
    except ValueError:
        return math.nan
    return length_s if length_s > 0 else math.nan


def _actions(name: str, cell: str, report: Report) -> Iterator[tuple[float, float, str]]:
    for action in cell.split(";"):
        if not action.strip():
            continue
        try:
            code, *times = action.split()
            if len(times) != 2 or not _CODE.fullmatch(code):
                raise ValueError(f"want code start end, got {action!r}")
            start_s, end_s = finite(times[0], "start"), finite(times[1], "end")
        except ValueError as error:
            report.add("bad_segment", name, str(error))
            continue
        yield start_s, end_s, code
