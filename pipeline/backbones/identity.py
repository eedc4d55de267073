"""The identity of what a model's numbers come from. Imports no torch: planning needs it, and loads no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import UsageError

Option = str | int | float | bool
FILE_OPTIONS = ("mean",)  # options whose value is a path: the file decides the numbers, not its name
RANDOM = re.compile(r"random:(\d{1,18})")


def random_seed(weights: str) -> int | None:
    """SEED of "random:SEED", or None where `weights` names a file. Raises UsageError for a bad seed."""
    if not weights.startswith("random:") and weights != "random":
        return None
    match = RANDOM.fullmatch(weights)
    if match is None:
        raise UsageError(f'weights: ask for random weights as "random:SEED" with SEED a whole number, got {weights!r}')
    return int(match[1])


def weights_sha256(weights: str, options: Mapping[str, Option] | None = None) -> str:
    """sha256 of the weights file, or of the text "random:SEED"; a file that an option names is hashed along.

    Raises UsageError for a bad seed, ReelmillError for a file that can't be read.
    """
    seed = random_seed(weights)
    own = file_sha256(weights) if seed is None else hashlib.sha256(f"random:{seed}".encode()).hexdigest()
    named = {key: str(value) for key, value in sorted((options or {}).items()) if key in FILE_OPTIONS}
    if not named:
        return own
    lines = [own, *(f"{key} {file_sha256(path)}" for key, path in named.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_sha256(path: str | Path) -> str:
    """sha256 of a file. Raises ReelmillError where it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: can't read this file ({error.strerror}); check the path") from None
