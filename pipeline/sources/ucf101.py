"""UCF101: classInd.txt numbers the classes from 1; trainlistNN.txt and testlistNN.txt are the folds."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.sources.issues import Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import Split, check_utf8, join, read_lines
from schemas.errors import UsageError
from schemas.sources import UCF101Source

_SPLITS: tuple[Split, ...] = ("train", "test")


@register("ucf101")
def index_ucf101(source: UCF101Source, scan: Scan, issues: Issues) -> Rows:
    """Label ids are classInd's minus one. Videos lie in their class's folder, or all in one."""
    names = _read_classes(join(source.splits, "classInd.txt"))
    ids = {name: label_id for label_id, name in enumerate(names)}
    lists: list[tuple[Split, str, Iterator[tuple[int, str]]]] = []
    for split in _SPLITS:
        list_name = f"{split}list{source.fold:02d}.txt"
        lists.append((split, list_name, read_lines(join(source.splits, list_name))))
    rows = Rows(scan(source.videos))
    rows.labels = names
    files = Lookup(rows.listing)
    for split, list_name, lines in lists:
        for line, text in lines:
            if not text.strip():
                continue
            try:
                path, label_id = _parse(text, ids)
            except ValueError as error:
                issues.add("malformed_row", text, f"{list_name}: {error}", line=line)
                continue
            file = files.path_or_name(path)
            if file is None:
                issues.add("row_without_file", path, f"{list_name}: no such video in {source.videos}", line=line)
                continue
            rows.add(file, [label_id], split=split, line=line, origin=list_name, value=path)
    return rows


def _read_classes(path: str) -> list[str]:
    """classInd.txt (`1 ApplyEyeMakeup`): names by number, from 1. Raises UsageError for anything else."""
    names: list[str] = []
    for line, text in read_lines(path):
        if not text.strip():
            continue
        number, _, name = text.strip().partition(" ")
        if not name.isascii() or number != str(len(names) + 1) or not name.strip():
            raise UsageError(f"{path}:{line}: want `{len(names) + 1} ClassName`, got {text!r}")
        names.append(name.strip())
    if not names:
        raise UsageError(f"{path}: no classes here; want lines such as `1 ApplyEyeMakeup`")
    return names


def _parse(text: str, ids: dict[str, int]) -> tuple[str, int]:
    """(path, label id) of `Class/v_Class_g08_c01.avi 1`; test lists have no number. Raises ValueError."""
    check_utf8(text)
    path, *number = text.split()
    class_name, slash, _ = path.partition("/")
    if not slash or len(number) > 1:
        raise ValueError("want `Class/name.avi` and at most a number")
    if class_name not in ids:
        raise ValueError(f"class {class_name!r} is not in classInd.txt")
    if number and number[0] != str(ids[class_name] + 1):
        raise ValueError(f"class {class_name} is number {ids[class_name] + 1} in classInd.txt, not {number[0]}")
    return path, ids[class_name]
