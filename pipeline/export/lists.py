"""The lists that mmaction2's RawframeDataset reads: `<folder> <number of pictures> <label> <label> …`, a line each.

One label for its default reading, any number with `multi_class=True`; a folder without a label has none in its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from pipeline.store import StagedFile, Store

UNSPLIT = "unsplit"  # the list of the rows whose source has no split


class RawframeLists:
    """train.txt, val.txt, test.txt and unsplit.txt, those of them that have a line.

    They are written as their lines come, and appear when they are published.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stack = ExitStack()
        self._files: dict[str, StagedFile] = {}
        self._counts: dict[str, int] = {}

    def add(self, split: str | None, folder: str, *, num_pictures: int, label_ids: Sequence[int]) -> None:
        name = f"{split or UNSPLIT}.txt"
        if name not in self._files:
            self._files[name] = self._stack.enter_context(self._store.stage(name))
            self._counts[name] = 0
        line = " ".join(map(str, (folder, num_pictures, *label_ids)))
        self._files[name].file.write(f"{line}\n".encode())
        self._counts[name] += 1

    def publish(self) -> dict[str, int]:
        """File name -> its number of lines."""
        for file in self._files.values():
            file.publish()
        return dict(sorted(self._counts.items()))

    def __enter__(self) -> RawframeLists:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
