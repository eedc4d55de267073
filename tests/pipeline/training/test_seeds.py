"""Randomness from words."""

import hashlib

import numpy as np

from pipeline.training.seeds import seed_of, share_of


def test_a_seed_is_a_hash_of_its_words() -> None:
    assert seed_of(0, "order", 3) == int(hashlib.sha256(b'[0,"order",3]').hexdigest()[:16], 16) // 2
    assert len({seed_of(0, "order", epoch) for epoch in range(100)} | {seed_of(1, "order", 0)}) == 101
    assert all(0 <= seed_of(n) < 2**63 for n in range(100))


def test_shares_are_uniform() -> None:
    shares = np.array([share_of(0, "val", f"video-{n}") for n in range(4000)])
    assert shares.min() >= 0
    assert shares.max() < 1
    quarters, _ = np.histogram(shares, bins=4, range=(0, 1))
    assert abs(quarters - 1000).max() < 120  # over four standard deviations
