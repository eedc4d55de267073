"""`kernel`: numba functions that are compiled once per machine and release Python's lock."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config as numba_config

config: Any = numba_config  # its fields are made at run time


@cache
def _directory() -> str:
    """Where the compiled kernels lie. Its name holds a hash of this package's sources.

    numba looks only at the file of the function itself: after a change in a file that a kernel inlines, it would go on
    with the old machine code.
    """
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(base / "reelmill" / f"kernels-{sources.hexdigest()[:16]}")


@contextlib.contextmanager
def _own_directory() -> Iterator[None]:
    chosen = config.CACHE_DIR  # from NUMBA_CACHE_DIR
    config.CACHE_DIR = chosen or _directory()
    try:
        yield
    finally:
        config.CACHE_DIR = chosen


def kernel(function: Callable) -> Callable:
    """Compile `function` at its first call, without Python's lock, and keep the machine code on disk if it can be."""
    with _own_directory():
        try:
            return njit(nogil=True, cache=True)(function)
        except RuntimeError:  # no folder that can be written: compile in every process
            return njit(nogil=True)(function)
