"""The identity of a model's weights. Imports no torch, because planning needs it and loads no model."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from schemas.errors import ReelmillError, UsageError

RANDOM = re.compile(r"random:(\d{1,18})")


def random_seed(weights: str) -> int | None:
    """SEED of "random:SEED", or None where `weights` names a file. Raises UsageError for a bad seed."""
    if not weights.startswith("random:") and weights != "random":
        return None
    match = RANDOM.fullmatch(weights)
    if match is None:
        raise UsageError(f'weights: ask for random weights as "random:SEED" with SEED a whole number, got {weights!r}')
    return int(match[1])


def weights_sha256(weights: str) -> str:
    """sha256 of the file, or of the text "random:SEED". Raises UsageError, and ReelmillError without the file."""
    if random_seed(weights) is not None:
        return hashlib.sha256(weights.encode()).hexdigest()
    return file_sha256(weights)


def file_sha256(path: str | Path) -> str:
    """sha256 of a file. Raises ReelmillError where it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReelmillError(f"{path}: can't read the weights ({error.strerror}); check the path") from None
