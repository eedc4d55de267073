import pickle

import pyarrow.fs as pafs
import pytest

from pipeline.storage.remote import Patient
from pipeline.store import resolve
from schemas.errors import StorageError


def test_a_look_is_made_again(scripted) -> None:
    scripted.objects["a/x"] = b"12345"
    filesystem, path = resolve(scripted.uri("a/x"))
    scripted.troubles["HEAD"] = ["503"] * 3
    assert filesystem.get_file_info(path).size == 5
    assert scripted.troubles["HEAD"] == []


def test_files_read_through_the_filesystem_have_its_patience(scripted) -> None:
    scripted.objects["a/x"] = b"12345"
    filesystem, path = resolve(scripted.uri("a/x"))
    scripted.troubles["GET"] = ["reset"] * 3
    with filesystem.open_input_stream(path) as stream:
        assert stream.read() == b"12345"
    with filesystem.open_input_file(path) as file:
        file.seek(3)
        assert (file.read(), file.size()) == (b"45", 5)


def test_errors_come_through(scripted) -> None:
    filesystem, path = resolve(scripted.uri("a/x"))
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file(path)
    scripted.objects["a/x"] = b"12345"
    scripted.troubles["HEAD"] = ["403"] * 2
    with pytest.raises(StorageError, match="s3://bucket/a/x: can't look at this"):
        filesystem.get_file_info(path)


def test_it_travels_without_credentials(scripted, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrK7MDENG")
    filesystem, _ = resolve(scripted.uri("a"))
    data = pickle.dumps(filesystem)
    assert b"wJalr" not in data
    assert pickle.loads(data) == filesystem


def test_a_listing_is_the_filesystems_own(tmp_path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_bytes(b"1")
    behind = pafs.LocalFileSystem()
    found = [filesystem.get_file_info(pafs.FileSelector(str(tmp_path))) for filesystem in (behind, _patient(behind))]
    assert str(found[0]) == str(found[1])
    assert [info.mtime_ns for info in found[0]] == [info.mtime_ns for info in found[1]]
    assert _patient(behind).get_file_info(pafs.FileSelector(str(tmp_path / "no"), allow_not_found=True)) == []


def _patient(behind: pafs.FileSystem) -> pafs.FileSystem:
    return pafs.PyFileSystem(Patient(behind, "s3"))
