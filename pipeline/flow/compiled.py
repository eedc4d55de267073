"""`kernel`: numba functions that are compiled once per machine and release Python's lock."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config as numba_config

config: Any = numba_config  # its fields are made at run time


@cache
def _directory() -> str | None:
    """Where the compiled kernels lie, a folder named by a hash of this package's sources; None if it can't be written.

    numba looks only at the file of the function itself: after a change in a file that a kernel inlines, it would go on
    with the old machine code. For that reason it is never left to choose a folder, as it would beside the sources.
    """
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    try:
        # CACHE_DIR: from NUMBA_CACHE_DIR
        base = Path(config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / "reelmill" / f"kernels-{sources.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    return str(folder)


def kernel(function: Callable) -> Callable:
    """Compile `function` at its first call, without Python's lock, and keep the machine code on disk if it can be."""
    folder = _directory()
    if folder is None:
        return njit(nogil=True)(function)  # compiled in every process
    before = config.CACHE_DIR
    config.CACHE_DIR = folder
    try:
        return njit(nogil=True, cache=True)(function)
    finally:
        config.CACHE_DIR = before
