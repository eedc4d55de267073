import io

import pytest

from pipeline.storage import places
from pipeline.storage.patience import PATIENCE_VARIABLE
from pipeline.store import open_for_reading
from schemas.errors import StorageError

DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("trouble", ["503", "500", "reset", "truncated"])
def test_what_fails_for_a_moment_is_read_again(scripted, trouble) -> None:
    scripted.objects["v"] = DATA
    with open_for_reading(scripted.uri("v")) as file:
        assert file.read(100) == DATA[:100]
        scripted.troubles["GET"] = [trouble] * 3
        assert file.read(100) == DATA[100:200]
        assert file.tell() == 200
    assert scripted.troubles["GET"] == []


@pytest.mark.parametrize("trouble", ["503", "500", "reset"])
def test_what_fails_for_a_moment_is_opened_again(scripted, trouble) -> None:
    scripted.objects["v"] = DATA
    scripted.troubles["HEAD"] = [trouble] * 3
    with open_for_reading(scripted.uri("v")) as file:
        assert file.read() == DATA


def test_places(scripted) -> None:
    scripted.objects["v"] = DATA
    with open_for_reading(scripted.uri("v")) as file:
        assert file.seek(0, io.SEEK_END) == file.size() == len(DATA)
        assert file.read() == b""
        file.seek(-3, io.SEEK_CUR)
        assert file.read(10) == DATA[-3:]
        with pytest.raises(ValueError, match="-1"):
            file.seek(-1)
        file.seek(5)
        assert io.BufferedReader(file, 64).read(7) == DATA[5:12]


def test_an_object_replaced_meanwhile_is_not_read_on(scripted) -> None:
    scripted.objects["v"] = DATA
    with open_for_reading(scripted.uri("v")) as file:
        scripted.objects["v"] = DATA[::-1]
        scripted.troubles["GET"] = ["503"] * 2
        with pytest.raises(StorageError, match="bucket/v: it was changed while it was read"):
            file.read(100)
        with pytest.raises(StorageError, match="changed"):  # and whoever swallowed that is told again
            file.read(100)
        assert isinstance(file.trouble, StorageError)


def test_patience_ends(scripted, monkeypatch) -> None:
    scripted.objects["v"] = DATA
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")
    with open_for_reading(scripted.uri("v")) as file:
        scripted.troubles["GET"] = ["503"] * 100
        with pytest.raises(StorageError, match=r"s3://bucket/v: storage did not answer for 0 s \(.*SLOW_DOWN"):
            file.read(100)
        assert file.trouble is not None


def test_a_silent_server_is_asked_again(scripted, monkeypatch) -> None:
    monkeypatch.setattr(places, "REQUEST_TIMEOUT_S", 1.0)
    scripted.objects["v"] = DATA
    with open_for_reading(scripted.uri("v")) as file:
        scripted.troubles["GET"] = ["silent"] * 3
        assert file.read(100) == DATA[:100]
    assert scripted.requests.count("GET") == 4


def test_no_object(scripted) -> None:
    with pytest.raises(FileNotFoundError):
        open_for_reading(scripted.uri("nothing"))


def test_a_denied_object_is_at_fault_where_its_bucket_answers(scripted) -> None:
    scripted.objects["v"] = DATA
    scripted.troubles["HEAD"] = ["403", "", "403"]  # the object, its bucket, the object
    with pytest.raises(PermissionError, match="storage denies it: ACCESS_DENIED"):
        open_for_reading(scripted.uri("v"))


def test_credentials_that_come_late_are_no_fault_of_the_object(scripted) -> None:
    scripted.objects["v"] = DATA
    scripted.troubles["HEAD"] = ["403"]
    with open_for_reading(scripted.uri("v")) as file:
        assert file.read() == DATA


def test_a_denied_bucket_is_storage_trouble(scripted) -> None:
    scripted.objects["v"] = DATA
    scripted.troubles["HEAD"] = ["403"] * 10
    with pytest.raises(StorageError, match=r"can't read this .*ACCESS_DENIED.*credentials"):
        open_for_reading(scripted.uri("v"))
    assert len(scripted.requests) == 2  # at once
