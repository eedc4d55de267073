"""HMDB51: one list per class and fold, `<class>_test_split1.txt`, of names and 0 (unused), 1 (train) or 2 (test)."""

from __future__ import annotations

from pipeline.sources.issues import Issues
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import Split, check_utf8, join, list_names, read_lines
from schemas.errors import UsageError
from schemas.sources import HMDB51Source

_SPLITS: dict[str, Split | None] = {"0": None, "1": "train", "2": "test"}


@register("hmdb51")
def index_hmdb51(source: HMDB51Source, scan: Scan, issues: Issues) -> Rows:
    """Labels are the lists' class names in sorted order. Videos lie in their class's folder, or all in one."""
    suffix = f"_test_split{source.fold}.txt"
    classes = sorted(name.removesuffix(suffix) for name in list_names(source.splits) if name.endswith(suffix))
    if not classes:
        raise UsageError(f"{source.splits}: no <class>{suffix} here; want HMDB51's folder of split files")
    lists = [read_lines(join(source.splits, name + suffix)) for name in classes]
    rows = Rows(scan(source.videos))
    rows.labels = classes
    files = Lookup(rows.listing)
    for label_id, (class_name, lines) in enumerate(zip(classes, lists, strict=True)):
        origin = class_name + suffix
        for line, text in lines:
            if not text.strip():
                continue
            try:
                name, split = _parse(text)
            except ValueError as error:
                issues.add("malformed_row", text, f"{origin}: {error}", line=line)
                continue
            path = f"{class_name}/{name}"
            file = files.path_or_name(path)
            if split is None:
                rows.set_aside(file)
            elif file is None:
                issues.add("row_without_file", path, f"{origin}: no such video in {source.videos}", line=line)
            else:
                rows.add(file, [label_id], split=split, line=line, origin=origin, value=path)
    return rows


def _parse(text: str) -> tuple[str, Split | None]:
    """(file name, split or None where unused) of one line. Raises ValueError with the reason."""
    check_utf8(text)
    name, _, code = text.strip().rpartition(" ")  # names hold every character but a slash
    if not name.strip() or code not in _SPLITS:
        raise ValueError("want a file name and 0, 1 or 2")
    return name.strip(), _SPLITS[code]
