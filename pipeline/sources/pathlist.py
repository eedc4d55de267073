"""mmaction2's and SlowFast's lists: `path label` a line; several labels with commas; a line may be a path alone."""

from __future__ import annotations

from pipeline.secrets import NO_SECRETS, has_secret
from pipeline.sources.issues import Issues
from pipeline.sources.labels import MetLabels, name_labels, parse_label_id, read_label_names
from pipeline.sources.lookup import Lookup
from pipeline.sources.registry import Scan, register
from pipeline.sources.rows import Rows
from pipeline.textlist import check_utf8, parent, read_lines
from schemas.sources import PathListSource


@register("list")
def index_list(source: PathListSource, scan: Scan, issues: Issues) -> Rows:
    """Paths are absolute or below `videos`. Labels are numbers, names from the label file, or, without one, names
    numbered in sorted order; the first label of the list says whether it holds numbers or names."""
    labels = _Labels(read_label_names(source.labels) if source.labels else None)
    lines = read_lines(source.list)
    rows = Rows(scan(source.videos or parent(source.list)))
    files = Lookup(rows.listing)
    for line, text in lines:
        text = text.strip()
        if not text:
            continue
        if has_secret(text):  # as a label it would stand in the manifest
            issues.add("malformed_row", text, NO_SECRETS, line=line)
            continue
        path, tokens = _split(text)
        try:
            check_utf8(text)
            file = files.path(path)
            if file is None and tokens:
                file = files.path(text)  # a path with a space in it, and no label
                tokens = [] if file is not None else tokens
            label_ids = [labels.id(token) for token in tokens]
        except ValueError as error:
            issues.add("malformed_row", text, str(error), line=line)
            continue
        if file is None:
            issues.add("row_without_file", path, f"no such video in {rows.listing.videos}", line=line)
            continue
        rows.add(file, list(dict.fromkeys(label_ids)), split=source.split, line=line, value=path)
    labels.finish(rows)
    return rows


def _split(text: str) -> tuple[str, list[str]]:
    """(path, labels) of one line: the labels stand after the last tab, or else after the last space."""
    parts = text.rsplit("\t", 1) if "\t" in text else text.rsplit(None, 1)
    if len(parts) == 1:
        return text, []
    return parts[0].rstrip(), [token.strip() for token in parts[1].split(",")]


class _Labels:
    """What the label column means."""

    def __init__(self, published: list[str] | None) -> None:
        self._published = published
        self._places = {name: place for place, name in enumerate(published or [])}
        self._met = MetLabels()
        self._numbers: bool | None = None  # whether labels are numbers; known from the first one
        self._highest = -1

    def id(self, token: str) -> int:
        """Raises ValueError with the reason."""
        if not token:
            raise ValueError("an empty label")
        if token in self._places:
            return self._places[token]
        if self._published is not None and not token.isdigit():
            raise ValueError(f"label {token!r} is not in the label file")
        if self._numbers is None:
            self._numbers = token.isdigit()
        if self._published is None and not self._numbers:
            return self._met.id(token)
        label_id = parse_label_id(token, None if self._published is None else len(self._published))
        self._highest = max(self._highest, label_id)
        return label_id

    def finish(self, rows: Rows) -> None:
        if self._published is None and self._numbers is False:
            rows.labels, rows.renumber = self._met.sorted()
        else:
            rows.labels = name_labels(self._published, self._highest)
