import io
import tarfile

import numpy as np
import pytest
import webdataset

from pipeline.shards import ShardWriter, Span, read_sample, read_shard, sample_spans


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


# ---------------------------------------------------------------- other tars, and damaged ones

LONG = "/".join(["d" * 60, "e" * 60, "k" * 60])


def tar_of(names: list[str], tar_format: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        folder = tarfile.TarInfo("folder.x")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for place, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = 511 + place
            tar.addfile(member, io.BytesIO(bytes([place + 1]) * member.size))
    return file.getvalue()


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_any_format(tar_format: int) -> None:
    names = [f"{LONG}.json", "a.000.jpg", f"{LONG}.cls", "été.npy", "a.json"]
    found = list(read_shard(io.BytesIO(tar_of(names, tar_format))))
    assert [(key, list(members)) for key, members in found] == [
        (LONG, ["json"]),
        ("a", ["000.jpg"]),
        (LONG, ["cls"]),
        ("été", ["npy"]),
        ("a", ["json"]),
    ]
    assert [next(iter(members.values())) for _, members in found] == [bytes([k + 1]) * (511 + k) for k in range(5)]


def test_keys_are_those_of_webdataset_whatever_folder_they_were_packed_from() -> None:
    names = ["./a.000.jpg", "./a.json", "v1.0/b.000.jpg", "v1.0/b.json"]
    found = [(key, list(members)) for key, members in read_shard(io.BytesIO(tar_of(names, tarfile.GNU_FORMAT)))]
    assert found == [("a", ["000.jpg", "json"]), ("v1.0/b", ["000.jpg", "json"])]


@pytest.mark.parametrize("size", [10**18, 10**40])
def test_a_size_that_no_file_has_is_damage(size: int) -> None:
    damaged = bytearray(tar_of(["a.json"], tarfile.USTAR_FORMAT))
    member = tarfile.TarInfo("header")
    member.type, record = tarfile.XHDTYPE, f"size={size}\n".encode()
    record = f"{len(record) + 3} ".encode() + record
    member.size = len(record)
    extended = member.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    damaged[512:512] = extended  # after the folder's header
    with pytest.raises(tarfile.ReadError, match="unexpected end"):
        list(read_shard(io.BytesIO(damaged)))


def test_a_shard_that_is_cut_anywhere_is_no_shard() -> None:
    whole = shard({"a": {"json": b"{}"}, "b" * 180: {"json": bytes(600), "cls": b"1"}})
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # of the last member; zeros follow
    for length in range(0, end, 97):
        with pytest.raises(tarfile.TarError):
            list(read_shard(io.BytesIO(whole[:length])))


def test_damage_is_a_tar_error_or_other_content() -> None:
    whole = bytearray(shard({"a": {"json": b"{}"}, "b" * 180: {"json": bytes(600), "cls": b"1"}}))
    random, refused = np.random.default_rng(0), 0
    for place in random.integers(0, len(whole), 500):
        damaged = whole.copy()
        damaged[place] ^= int(random.integers(1, 256))
        try:
            list(read_shard(io.BytesIO(damaged)))
        except tarfile.TarError:
            refused += 1
    assert refused > 50


def test_the_file_stays_open() -> None:
    file = io.BytesIO(shard(SAMPLES))
    samples = read_shard(file)
    next(samples)
    samples.close()  # type: ignore[attr-defined]
    assert not file.closed


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_sample_can_be_read_alone(tar_format: int) -> None:
    names = [f"{LONG}.json", "a.000.jpg", "a.json", f"{LONG}x.cls", "été.npy"]
    for data in (tar_of(names, tar_format), shard(SAMPLES)):
        file = io.BytesIO(data)
        spans = list(sample_spans(file))
        assert [(key, read_sample(file, span)) for key, span in spans] == list(read_shard(io.BytesIO(data)))
        assert not file.closed


def test_a_sample_of_a_shard_that_changed_is_a_tar_error() -> None:
    data = shard(SAMPLES)
    spans = [span for _, span in sample_spans(io.BytesIO(data))]
    for changed, span in ((data[:-30_000], spans[2]), (bytes(len(data)), spans[0]), (data, Span(0, spans[1].stop))):
        with pytest.raises(tarfile.TarError):
            read_sample(io.BytesIO(changed), span)
    for length in range(0, spans[-1].stop, 997):
        with pytest.raises(tarfile.TarError):
            list(sample_spans(io.BytesIO(data[:length])))
