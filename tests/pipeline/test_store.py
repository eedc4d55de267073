import os
import pickle
import resource
import subprocess
import sys

import pytest

from pipeline.store import TEMP_FOLDER, Store
from schemas.errors import StorageError, UsageError


def everything(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_put_and_read(tmp_path) -> None:
    store = Store(str(tmp_path / "deep" / "dataset"))
    entry = store.put("clips/a/_receipts/000000.json", b"hello")
    assert (entry.path, entry.bytes) == ("_receipts/000000.json", 5)
    assert entry.sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert store.read("clips/a/_receipts/000000.json") == b"hello"
    assert store.files("clips/a/_receipts") == ["000000.json"]
    assert store.folders("clips") == ["a"]


def test_absent_things(tmp_path) -> None:
    store = Store(str(tmp_path))
    assert store.read_or_none("nothing") is None
    assert store.files("no/folder") == []
    assert store.folders("no/folder") == []
    store.delete("nothing")
    store.delete_folder("nothing")
    with pytest.raises(FileNotFoundError):
        store.identity("nothing")


def test_a_staged_file_is_invisible_until_published(tmp_path) -> None:
    store = Store(str(tmp_path))
    with store.stage("clips/a/clips-000000.tar") as staged:
        staged.file.write(b"half")
        assert store.files("clips/a") == []
        staged.file.write(b" and half")
        staged.publish()
    assert store.read("clips/a/clips-000000.tar") == b"half and half"
    assert everything(tmp_path) == {"clips/a/clips-000000.tar"}


def test_leaving_without_publish_leaves_nothing(tmp_path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(RuntimeError), store.stage("clips/a/clips-000000.tar") as staged:
        staged.file.write(b"half")
        raise RuntimeError
    assert everything(tmp_path) == set()


def test_a_killed_writer_leaves_only_a_temporary_file(tmp_path) -> None:
    code = (
        "import os, signal; from pipeline.store import Store\n"
        f"staged = Store({str(tmp_path)!r}).stage('clips/a/clips-000000.tar')\n"
        "staged.file.write(b'x' * 10_000_000); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    left = everything(tmp_path)
    assert len(left) == 1
    assert left.pop().startswith(f"clips/a/{TEMP_FOLDER}/")


def test_only_the_address_travels(tmp_path) -> None:
    store = pickle.loads(pickle.dumps(Store(str(tmp_path))))
    store.put("x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"


def test_relative_and_home_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Store("out/x").put("file", b"1")
    assert (tmp_path / "out/x/file").exists()
    assert Store("~/x").path("file") == os.path.expanduser("~/x/file")


def test_a_bad_uri_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="nosuch://bucket/x: not a location that pyarrow can open"):
        Store("nosuch://bucket/x")


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="can't write here"):
        Store(str(tmp_path / "file" / "dataset")).put("x", b"1")


@pytest.mark.slow
def test_an_object_store(s3_uri) -> None:
    store = Store(s3_uri.format("dataset"))
    assert not store.is_local
    assert store.read_or_none("clips/a/x.tar") is None
    with pytest.raises(RuntimeError), store.stage("clips/a/x.tar") as staged:
        staged.file.write(b"half")
        raise RuntimeError
    assert store.files("clips/a") == []
    with store.stage("clips/a/x.tar") as staged:
        staged.file.write(b"x" * 20_000_000)  # more than one part of a multipart upload
        assert store.files("clips/a") == []
        entry = staged.publish()
    assert (entry.path, entry.bytes) == ("x.tar", 20_000_000)
    assert store.files("clips/a") == ["x.tar"]
    assert store.read("clips/a/x.tar") == b"x" * 20_000_000
    store.delete("clips/a/x.tar")
    assert store.files("clips/a") == []


def interrupted_at(step: int, act) -> bool:
    """Call `act`, raising KeyboardInterrupt at the step-th line of Python that it runs; False when it has fewer."""
    left = step

    def trace(frame, event, _argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.slow
def test_an_interrupt_at_any_line_leaves_an_object_whole(s3_uri) -> None:
    store = Store(s3_uri.format("interrupted"))
    old, new = b"old" * 1000, b"new" * 2000
    store.put("clips/a/x.tar", old)
    seen = set()
    for step in range(1, 1000):
        with store.stage("clips/a/x.tar") as staged:
            staged.file.write(new)
            interrupted = interrupted_at(step, staged.publish)
        seen.add(found := store.read("clips/a/x.tar"))
        assert found in (old, new), f"an interrupt at line {step} published {len(found)} bytes"
        if not interrupted:
            break
        if found == new:
            store.put("clips/a/x.tar", old)
    assert not interrupted
    assert step > 10
    assert seen == {old, new}


@pytest.mark.slow
def test_a_killed_writer_to_an_object_store_leaves_nothing(s3_uri, tmp_path) -> None:
    uri = s3_uri.format("killed")
    code = (
        "import os, signal; from pipeline.store import Store\n"
        f"staged = Store({uri!r}).stage('clips/a/clips-000000.tar')\n"
        "staged.file.write(b'x' * 10_000_000); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == -9
    assert everything(tmp_path) == set()
    assert Store(uri).files("clips/a") == []


def test_a_full_local_disk_is_not_said_to_be_the_buckets(scripted) -> None:
    store = Store(scripted.uri(""))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.stage("a/x") as staged:
        staged.file.write(b"n" * 100_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(
                StorageError, match=r"TMPDIR, where bucket/a/x is kept until it is sent.*can't write here"
            ):
                staged.file.write(b"n" * 100_000)
                staged.publish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert scripted.objects == {}


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 20_000_000])  # one request, and many
def test_a_refused_upload_is_an_error(s3_uri, monkeypatch, size) -> None:
    good = Store(s3_uri.format("refused"))
    good.put("x", b"old")
    with monkeypatch.context() as patch, pytest.raises(StorageError, match="can't write here"):
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        Store(good.uri).put("x", b"n" * size)
    assert good.read("x") == b"old"
