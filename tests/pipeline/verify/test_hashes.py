"""What happens to files after they were written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipeline import receipts
from pipeline.store import Store
from pipeline.verify import verify

PART = "features/v/part-000001.parquet"


def test_a_flipped_byte(copy, verified) -> None:
    data = bytearray((copy.folder / PART).read_bytes())
    data[len(data) // 2] ^= 1
    (copy.folder / PART).write_bytes(data)
    report = verified(copy, "features/v")
    assert report.faults == [f"{PART} was changed: its bytes do not have the sha256 of its receipt"]
    assert {len(c.values) for c in report.comparisons} == {3}  # from the other unit
    assert verified(copy, "features/v", hashing=False, num_clips=0).verdict == "ok"  # sizes alone don't tell


@pytest.mark.parametrize("hashing", [True, False])
def test_a_truncated_a_longer_and_a_missing_file(copy, verified, hashing) -> None:
    shard, ledger = copy.folder / "clips/c/clips-000000.tar", copy.folder / "clips/c/_ledger/000000.parquet"
    size = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(1000)
    with ledger.open("ab") as file:
        file.write(b"more")
    (copy.folder / "clips/c/_index/000001.parquet").unlink()
    report = verified(copy, "clips/c", hashing=hashing)
    assert report.verdict == "FAILED"
    assert report.faults == [
        f"clips/c/_ledger/000000.parquet was changed: it has {ledger.stat().st_size:,} bytes, and its receipt says "
        f"{ledger.stat().st_size - 4:,}",
        f"clips/c/clips-000000.tar is truncated: 1,000 of its {size:,} bytes are there",
        "clips/c/_index/000001.parquet is missing",
    ]
    assert report.comparisons == []  # no unit is sound


def test_files_that_no_receipt_claims(copy, verified) -> None:
    (copy.folder / "features/v/part-000009.parquet").write_bytes(b"a stranger")
    (copy.folder / "features/v/_ledger/000009.parquet").write_bytes(b"readers skip it")
    (copy.folder / "features/v/_tmp").mkdir(exist_ok=True)
    (copy.folder / "features/v/_tmp/part-000000.parquet.17").write_bytes(b"a run is under way")
    report = verified(copy, "features/v", num_clips=0)
    assert report.faults == [
        "features/v/part-000009.parquet is claimed by no receipt, and whoever reads the folder reads it too: delete "
        "it, or find out what it is"
    ]
    assert report.notes == ["features/v/_ledger/000009.parquet is claimed by no receipt"]


def reseal(folder: Path, product: str, unit: int, name: str, **changes: object) -> None:
    """A receipt that agrees with a file as it is now, as only a forger or a faulty writer leaves it."""
    data = (folder / product / name).read_bytes()
    path = folder / product / f"_receipts/{unit:06d}.json"
    receipt = json.loads(path.read_text())
    for entry in receipt["files"]:
        if entry["path"] == name:
            entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    path.write_text(json.dumps({**receipt, **changes}))


def test_counts_that_disagree(copy, verified) -> None:
    part, ledger = copy.folder / PART, copy.folder / "features/v/_ledger/000000.parquet"
    items = receipts.load(copy.store, "features/v", 1).items
    pq.write_table(pq.read_table(part).slice(1), part)
    reseal(copy.folder, "features/v", 1, part.name)
    pq.write_table(pq.read_table(ledger).slice(1), ledger)
    reseal(copy.folder, "features/v", 0, "_ledger/000000.parquet")
    assert verified(copy, "features/v").faults == [
        "unit 000000: its ledger counts 0 ok, 0 partial, 0 failed, 0 filtered, and its receipt 1 ok, 0 partial, 0 "
        "failed, 0 filtered",
        "unit 000000: its ledger has 0 rows, and the manifest 1",
        f"unit 000000: its ledger counts 0 items, and its receipt {items}",
        f"unit 000001: {PART} has {items - 1} rows, and its receipt says {items} items",
    ]


def test_an_object_store(fresh, s3_uri) -> None:
    root = s3_uri.format("verify")
    filesystem, path = pafs.FileSystem.from_uri(root)
    pafs.copy_files(
        str(fresh.folder), path, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=filesystem
    )
    store = Store(root)
    clips = verify(store, products=["clips/c"], num_clips=1)[0]
    assert (clips.verdict, clips.num_files, clips.comparisons[0].values) == ("ok", 6, (0.0,))
    store.put("clips/c/clips-000007.tar", b"a stranger")
    store.put("clips/c/clips-000001.tar", b"short")
    faults = verify(store, products=["clips/c"], num_clips=0)[0].faults
    assert faults[0].startswith("clips/c/clips-000001.tar is truncated: 5 of its ")
    assert faults[1].startswith("clips/c/clips-000007.tar is claimed by no receipt")
