import multiprocessing

import numpy as np
import pytest

from pipeline import backbones
from pipeline.backbones.identity import weights_sha256
from pipeline.backbones.preprocess import read_mean
from pipeline.storage import cached
from pipeline.storage.cached import local_file
from schemas.errors import StorageError, UsageError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reelmill"


def test_a_local_file_is_itself(tmp_path) -> None:
    assert str(local_file("a/b")) == "a/b"
    assert local_file(tmp_path) == tmp_path
    assert local_file(f"file://{tmp_path}/x") == tmp_path / "x"


def test_an_object_is_fetched_once_and_anew_when_it_is_another(scripted, cache) -> None:
    scripted.objects["w/c3d.pickle"] = b"weights" * 1000
    first = local_file(scripted.uri("w/c3d.pickle"))
    assert first.read_bytes() == b"weights" * 1000
    assert (first.name, first.parent.parent) == ("c3d.pickle", cache)
    gets = scripted.requests.count("GET")
    assert local_file(scripted.uri("w/c3d.pickle")) == first
    assert scripted.requests.count("GET") == gets
    scripted.objects["w/c3d.pickle"] = b"others!" * 1000
    assert local_file(scripted.uri("w/c3d.pickle")).read_bytes() == b"others!" * 1000


def test_half_a_download_is_no_file(scripted, cache, monkeypatch) -> None:
    scripted.objects["w"] = b"weights"
    monkeypatch.setenv("REELMILL_STORAGE_S", "0")
    scripted.troubles["GET"] = ["truncated"] * 2
    with pytest.raises(StorageError, match="did not answer"):
        local_file(scripted.uri("w"))
    assert not [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"]
    assert local_file(scripted.uri("w")).read_bytes() == b"weights"


def test_processes_at_once_fetch_it_once(scripted) -> None:
    scripted.objects["w"] = bytes(5_000_000)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(local_file, [scripted.uri("w")] * 3)
    assert len(set(found)) == 1
    assert scripted.requests.count("GET") == 1


def test_no_object(scripted) -> None:
    with pytest.raises(UsageError, match=r"s3://bucket/w.*: can't read this file \(there is no such file\)"):
        local_file(scripted.uri("w"))


def test_a_cache_that_cannot_be_made(scripted, tmp_path, monkeypatch) -> None:
    scripted.objects["w"] = b"weights"
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        local_file(scripted.uri("w"))


def test_weights_by_uri_are_the_same_net_with_its_address(scripted, tmp_path) -> None:
    backbones.save(backbones.build("small_rgb", weights="random:3"), tmp_path / "w.safetensors")
    scripted.objects["w.safetensors"] = (tmp_path / "w.safetensors").read_bytes()
    uri = scripted.uri("w.safetensors")
    of_bucket, of_disk = (
        backbones.build("small_rgb", weights=place) for place in (uri, str(tmp_path / "w.safetensors"))
    )
    assert of_bucket.weights.source == uri
    assert of_bucket.weights.sha256 == of_disk.weights.sha256 == weights_sha256(uri)
    assert all((a == b).all() for a, b in zip(of_bucket.parameters(), of_disk.parameters(), strict=True))


def test_a_mean_by_uri(scripted, tmp_path) -> None:
    np.save(tmp_path / "mean.npy", np.ones((1, 2, 2, 3), np.float32))
    scripted.objects["mean.npy"] = (tmp_path / "mean.npy").read_bytes()
    assert read_mean(scripted.uri("mean.npy")).shape == (1, 2, 2, 3)


def test_the_cache_of_a_user_without_settings(monkeypatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cached.cache_folder()) == "/home/me/.cache/reelmill"
