"""All randomness of training, derived from words: the same at every resume, on every worker, on every machine."""

from __future__ import annotations

from pipeline.graph import digest


def seed_of(*words: str | int) -> int:
    """A seed below 2**63 from words such as (settings.seed, "epoch", 3)."""
    return int(digest(list(words))[:16], 16) >> 1


def share_of(*words: str | int) -> float:
    """A number in [0, 1) from words, uniform over the last of them."""
    return int(digest(list(words))[:13], 16) / 16**13  # 52 bits: exact in a float
