"""Label numbers: the source's own where it publishes them, else by sorted name."""

from __future__ import annotations

import numpy as np

from pipeline.textlist import check_utf8, read_lines
from schemas.errors import UsageError

MAX_LABEL_ID = 999_999  # a larger number is some other column, and labels.json has one entry per number


class MetLabels:
    """Numbers names as they are met; at the end they are numbered again in sorted order."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def id(self, name: str) -> int:
        """A number for `name`, good until `sorted`."""
        return self._ids.setdefault(name, len(self._ids))

    def sorted(self) -> tuple[list[str], np.ndarray]:
        """(the names in order, an int32 array that takes a number of `id` to the place of its name)."""
        names = sorted(self._ids)
        places = np.zeros(len(names), np.int32)
        for place, name in enumerate(names):
            places[self._ids[name]] = place
        return names, places


def read_label_names(path: str) -> list[str]:
    """One class name a line; the first has number 0. Raises UsageError for a blank line between names."""
    names = []
    for line, text in read_lines(path):
        try:
            check_utf8(text)
        except ValueError as error:
            raise UsageError(f"{path}:{line}: {error}") from None
        names.append(text.strip())
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UsageError(f"{path}: no label names here; write one a line")
    if "" in names:
        raise UsageError(f"{path}:{names.index('') + 1}: a blank line, but each line names the label of its number")
    return names


def parse_label_id(text: str, num_labels: int | None) -> int:
    """A label number below `num_labels`. Raises ValueError with the reason."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"label {text!r} is not a number")
    label_id = int(text)
    if label_id >= (MAX_LABEL_ID + 1 if num_labels is None else num_labels):
        have = f"the highest allowed is {MAX_LABEL_ID}" if num_labels is None else f"there are {num_labels} labels"
        raise ValueError(f"label {label_id} is out of range: {have}")
    return label_id


def name_labels(names: list[str] | None, highest: int) -> list[str]:
    """The names by label id; numbers that nobody named are called by their digits."""
    return names if names is not None else [str(label_id) for label_id in range(highest + 1)]
