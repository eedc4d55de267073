"""A pickle that leaves a mark when it is read: what each test of this folder checks is that it never does."""

from __future__ import annotations

import os
import pickle
from pathlib import Path


class Payload:
    """Unpickling it makes a file named `mark`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def pickled(mark: Path, protocol: int = 2) -> bytes:
    return pickle.dumps(Payload(mark), protocol=protocol)
