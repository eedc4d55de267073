import pytest

from pipeline.storage.patience import PATIENCE_VARIABLE
from pipeline.store import Store
from schemas.errors import StorageError


@pytest.mark.parametrize("trouble", ["503", "500", "reset"])
def test_an_upload_is_sent_again_whole(scripted, trouble) -> None:
    scripted.troubles["PUT"] = [trouble] * 3
    entry = Store(scripted.uri("")).put("a/x", b"all of it")
    assert scripted.objects["a/x"] == b"all of it"
    assert entry.bytes == 9
    assert scripted.requests.count("PUT") == 4


def test_a_refused_upload_is_not(scripted) -> None:
    scripted.troubles["PUT"] = ["403"] * 9
    with pytest.raises(StorageError, match=r"s3://bucket/a/x: can't write here \(ACCESS_DENIED"):
        Store(scripted.uri("")).put("a/x", b"all of it")
    assert scripted.requests.count("PUT") == 1
    assert scripted.objects == {}


def test_patience_ends(scripted, monkeypatch) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")
    scripted.troubles["PUT"] = ["503"] * 100
    with pytest.raises(StorageError, match=r"did not answer .*the same command goes on from here"):
        Store(scripted.uri("")).put("a/x", b"all of it")
    assert scripted.objects == {}
