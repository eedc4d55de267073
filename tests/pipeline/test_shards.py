import io
import tarfile

import pytest
import webdataset

from pipeline.shards import ShardWriter, read_shard


def shard(samples: dict[str, dict[str, bytes]]) -> bytes:
    file = io.BytesIO()
    writer = ShardWriter(file)
    for key, members in samples.items():
        writer.add(key, members)
    writer.close()
    return file.getvalue()


SAMPLES = {
    "a+b~mp4@0-3200000": {"000.jpg": b"one", "001.jpg": b"", "json": b"{}", "cls": b"3"},
    "x" * 180: {"000.jpg": b"long names need a PAX header", "json": b"{}"},
    "caf%C3%A9": {"npy": bytes(100_000)},
}


def test_bytes_depend_on_content_only() -> None:
    assert shard(SAMPLES) == shard(SAMPLES)
    with tarfile.open(fileobj=io.BytesIO(shard(SAMPLES))) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_round_trip() -> None:
    assert dict(read_shard(io.BytesIO(shard(SAMPLES)))) == SAMPLES


def test_empty_shard() -> None:
    assert list(read_shard(io.BytesIO(shard({})))) == []


def test_webdataset_reads_it(tmp_path) -> None:
    path = tmp_path / "clips-000000.tar"
    path.write_bytes(shard(SAMPLES))
    found = {
        sample["__key__"]: {k: v for k, v in sample.items() if not k.startswith("__")}
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    }
    assert found == SAMPLES


@pytest.mark.parametrize("key", ["a.b", "a/b"])
def test_keys_hold_no_dot_and_no_slash(key: str) -> None:
    with pytest.raises(AssertionError, match="no dot and no slash"):
        shard({key: {"json": b""}})


def test_keys_are_unique() -> None:
    writer = ShardWriter(io.BytesIO())
    writer.add("a", {"json": b""})
    with pytest.raises(AssertionError, match="two samples"):
        writer.add("a", {"json": b""})


def test_members_that_are_no_files_are_left_alone() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        evil = tarfile.TarInfo("../../evil.000.jpg")
        evil.type, evil.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(evil)
        good = tarfile.TarInfo("k.json")
        good.size = 2
        tar.addfile(good, io.BytesIO(b"{}"))
    file.seek(0)
    assert list(read_shard(file)) == [("k", {"json": b"{}"})]
