"""Names from shards, receipts and video ids that would lead out of where they belong: nothing lands outside."""

from __future__ import annotations

import json
import resource
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import receipts
from pipeline.export.feature_files import FeatureFiles, Target
from pipeline.export.folder import ExportFolder
from pipeline.shards import read_sample, read_shard, sample_spans
from pipeline.sources import build_manifest
from pipeline.sources.ids import relative_path, video_id
from pipeline.store import Store
from schemas.errors import ReelmillError
from schemas.receipt import FileEntry
from schemas.sources import PathListSource

OUTWARD = ["../escaped", "a/../../escaped", "/escaped", "..", "a\0b"]


def member(name: str, data: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in facts.items():
        setattr(info, field, value)
    return info, data


HOSTILE = [
    member("../escaped.json", b"up"),
    member("/tmp/escaped.json", b"absolute"),
    member("a/../../escaped.txt", b"through"),
    member("link.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    member("hard.json", type=tarfile.LNKTYPE, linkname="../escaped.json"),
    member("pipe.json", type=tarfile.FIFOTYPE),
    member("disk.json", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
    member("zero.json", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    member("folder", type=tarfile.DIRTYPE, mode=0o777),
    member("l" * 4000 + ".json", b"long"),
    member("~root.json", b"home"),
    member("last.json", b"plain"),
]


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_of_a_shard_are_bytes_in_memory(form: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a/b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(tarfile.TarFile, "_extract_one", None)  # whoever extracts fails
    shard = BytesIO(tar_of(HOSTILE, form))
    found = [content for _, members in read_shard(shard) for content in members.values()]
    assert found == [b"up", b"absolute", b"through", b"long", b"home", b"plain"]  # links, devices, folders are left out
    shard.seek(0)
    spans = dict(sample_spans(shard))
    assert read_sample(shard, spans["last"]) == {"json": b"plain"}
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", here]


def test_a_member_that_says_more_bytes_than_there_are_takes_no_memory() -> None:
    info = tarfile.TarInfo("a.json")
    info.size = 1 << 33
    claims = info.tobuf(tarfile.GNU_FORMAT) + b"short"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tarfile.ReadError, match="unexpected end of data"):
        list(read_shard(BytesIO(claims)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # in KiB


# ---------------------------------------------------------------- what storage says


@pytest.mark.parametrize("name", OUTWARD)
def test_a_store_stays_inside_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "escaped").write_bytes(b"not ours")
    store = Store(str(tmp_path / "dataset"))
    for attempt in (store.read, store.delete, store.delete_folder, store.files, lambda name: store.put(name, b"")):
        with pytest.raises(ReelmillError, match="outside of this folder"):
            attempt(name)
    assert (tmp_path / "escaped").read_bytes() == b"not ours"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "dataset", tmp_path / "escaped"]


def test_what_a_receipt_names_outside_of_its_product_is_not_deleted(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "dataset"))
    entry = FileEntry(path="clips-000000.tar", bytes=1, sha256="0").model_dump()
    receipt = {"product": "clips/a", "unit": 0, "fingerprint": "f", "rows": {}, "items": 0, "files": [entry]}
    store.put("features/b/part-000000.parquet", b"of another")
    for path in ("../../features/b/part-000000.parquet", "/etc/hostname", str(tmp_path / "mine")):
        (tmp_path / "mine").write_bytes(b"not ours")
        entry["path"] = path
        store.put(receipts.receipt_path("clips/a", 0), json.dumps(receipt).encode())
        assert receipts.load(store, "clips/a", 0) is None
        receipts.retract(store, "clips/a", 0)
        assert store.files("clips/a/_receipts") == []
    assert store.read("features/b/part-000000.parquet") == b"of another"
    assert (tmp_path / "mine").read_bytes() == b"not ours"


# ---------------------------------------------------------------- exports


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("target", ["npy", "mmaction2"])
def test_a_file_named_from_a_video_id_stays_in_the_export(name: str, target: Target, tmp_path: Path) -> None:
    folder = ExportFolder(str(tmp_path / "out"), identity={}, facts={})
    files = FeatureFiles(folder, target)
    before = sorted(tmp_path.rglob("*"))
    id_ = f"../../{name}"
    with pytest.raises(ReelmillError, match="outside of this folder"):
        files.write(id_, np.zeros((1, 2), np.float32))
    with pytest.raises(ReelmillError, match="outside of this folder"):
        files.publish([id_])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", OUTWARD)
def test_a_folder_named_from_a_video_id_stays_in_the_export(name: str, tmp_path: Path) -> None:
    folder = ExportFolder(str(tmp_path / "out"), identity={}, facts={})
    (tmp_path / "escaped").mkdir()
    (tmp_path / "escaped/mine").write_bytes(b"not ours")
    with pytest.raises(ReelmillError, match="outside of this folder"):
        (folder.begin(name) / "img_00000.jpg").write_bytes(b"")
        folder.publish([name])
    with pytest.raises(ReelmillError, match="outside of this folder"):
        folder.stands(name, num_files=1)
    folder.sweep()
    found = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))]
    assert found == ["escaped", "escaped/mine", "out", "out/_export.json"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_an_id_of_ours_is_a_name_and_gives_its_file_back(relative: str) -> None:
    """Whatever a file is called, no slash, dot or NUL is left, nor anything that a shell would heed."""
    made = video_id(relative)
    assert not set("/.\0 \n$;&|`'\"\\") & set(made)
    assert relative_path(made) == (relative, None, None)


@pytest.mark.parametrize("label", ["../../escaped", "/escaped", "a/b", "..", "con\x1b[2Jsole"])
def test_a_label_is_never_a_path(label: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"no video")
    (tmp_path / "list.txt").write_text(f"a.mp4\t{label}\n../videos/../../outside.mp4\tx\n/dev/zero\tx\n")
    source = PathListSource(kind="list", list=str(tmp_path / "list.txt"), videos=str(tmp_path / "videos"))
    report = build_manifest(Store(str(tmp_path / "out/dataset")), source)
    assert (report.num_rows, report.issue_counts) == (1, {"row_without_file": 2})  # no device is a video
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    out = {f"out/dataset/{name}" for name in ("_manifest_issues.csv", "labels.json", "manifest.parquet")}
    assert written == {"videos/a.mp4", "list.txt", *out}
