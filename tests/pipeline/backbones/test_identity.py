"""What identifies weights before any is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.backbones import random_seed, weights_sha256
from schemas.errors import ReelmillError, UsageError


def test_a_file_is_its_bytes_and_a_seed_its_text(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    assert weights_sha256(str(path)) == hashlib.sha256(b"weights").hexdigest()
    assert weights_sha256("random:7") == hashlib.sha256(b"random:7").hexdigest()
    assert weights_sha256("random:7") == weights_sha256("random:07") != weights_sha256("random:8")


def test_a_file_that_an_option_names_counts_by_its_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.npy", tmp_path / "b.npy"
    first.write_bytes(b"mean")
    second.write_bytes(b"mean")
    plain = weights_sha256("random:0")
    assert weights_sha256("random:0", {"pool5": "ceil"}) == plain
    with_mean = weights_sha256("random:0", {"mean": str(first)})
    assert with_mean == weights_sha256("random:0", {"mean": str(second)}) != plain
    second.write_bytes(b"other")
    assert weights_sha256("random:0", {"mean": str(second)}) != with_mean


def test_seeds() -> None:
    assert random_seed("random:12") == 12
    assert random_seed("weights/random.pth") is None
    assert random_seed("randomised.pth") is None
    for bad in ("random", "random:", "random:x", "random:-1", "random:1.5"):
        with pytest.raises(UsageError, match=r'as "random:SEED" with SEED a whole number'):
            random_seed(bad)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReelmillError, match=r"can.t read this file .*check the path"):
        weights_sha256(str(tmp_path / "nowhere.pth"))
