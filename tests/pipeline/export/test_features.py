"""Stored features as the files of other tools: what is there, after a kill too, and mistakes."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import receipts
from pipeline.export.features import export_features
from pipeline.store import Store
from schemas.errors import ReelmillError, UsageError

ROOT = Path(__file__).resolve().parents[3]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# ---------------------------------------------------------------- files and seconds


def test_a_file_a_video(stored, tmp_path) -> None:
    data = stored([10.0, None, 7.3])
    report = data.export(tmp_path / "out", target="npy")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"features", "info.json", "_export.json"}
    for video_id, count in (("v0", 4), ("v2", 3)):
        array = np.load(tmp_path / f"out/features/{video_id}.npy", allow_pickle=False)
        assert (array.dtype, array.shape, array.flags.c_contiguous) == (np.float32, (count, 4), True)
        np.testing.assert_array_equal(array, [row["embedding"] for row in data.written["a"][video_id]])
    info = read(tmp_path / "out/info.json")
    assert (info["feature_stride"], info["offset_frames"], info["snippet_frames"], info["fps"]) == (16, 8, 16, 5)
    assert info["columns"] == [{"product": "features/a", "first": 0, "stop": 4}]
    assert info["videos"]["v2"] == {"num_features": 3, "duration": 7.4, "frame": 37, "start_s": 0, "num_repeated": 0}
    assert set(info["videos"]) == {"v0", "v2"}
    assert (report.num_files, report.num_rows, report.num_without, report.num_repeated) == (2, 7, 1, 0)
    lines = report.lines()
    assert lines[0] == f"2 videos in {tmp_path}/out/features, 7 rows of 4 columns (features/a 4)"
    assert "length padded: row t is centred on (t * 16 + 8) / 5 s" in lines[1]
    assert "1 video without rows in the product" in lines[2]


# ---------------------------------------------------------------- several products, views and windows


SEGMENTS = [{"split": "train", "segment_start_s": [2.5], "segment_end_s": [6.0], "segment_label_ids": [1]}]
KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from pipeline.export.features import export_features

left, replace = int(sys.argv[1]), Path.replace

def killing(path, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = killing
store, plan, products, out, target = pickle.load(sys.stdin.buffer)
export_features(store, plan, products, out=out, target=target)
"""


@pytest.mark.parametrize("num_published", [0, 3])
@pytest.mark.parametrize("target", ["opentad", "mmaction2"])
def test_a_killed_export_goes_on_to_the_same_bytes(stored, tmp_path, tree, target, num_published) -> None:
    data = stored([10.0, 9.0, 8.0, 7.0, 6.0], columns=SEGMENTS, labels=("a", "b"))
    out = tmp_path / "killed"
    handed = pickle.dumps((data.store, data.plan, data.products, str(out), target))
    words = [sys.executable, "-c", KILLED, str(num_published)]
    ended = subprocess.run(words, cwd=ROOT, input=handed, capture_output=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (out / "info.json").exists()
    assert len([*out.glob("features/*"), *out.glob("csv/*")]) == num_published
    data.export(out, target=target)
    data.export(tmp_path / "undisturbed", target=target)
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert not (out / "_tmp").exists()


def test_again_changes_nothing_and_brings_back_what_was_deleted(stored, tmp_path, tree) -> None:
    data, out = stored([10.0, 9.0, 8.0]), tmp_path / "out"
    seen: list[int] = []
    first = data.export(out, progress=seen.append)
    assert seen == [2, 1]
    before, times = tree(out), {path: path.stat().st_mtime_ns for path in out.glob("features/*")}
    assert data.export(out) == first
    assert tree(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.glob("features/*")} == times
    (out / "features/v1.npy").unlink()
    data.export(out)
    assert tree(out) == before


def test_it_goes_on_for_the_same_export_only(stored, tmp_path) -> None:
    data, out = stored([10.0], dims={"a": 4, "b": 2}), tmp_path / "out"
    data.export(out, products=data.products[:1])
    with pytest.raises(UsageError, match="its product is features/a, and this one's would be features/a"):
        data.export(out)
    with pytest.raises(UsageError, match="its length is padded, and this one's would be 10"):
        data.export(out, products=data.products[:1], length="10")
    with pytest.raises(UsageError, match="its target is npy, and this one's would be opentad"):
        data.export(out, products=data.products[:1], target="opentad")


# ---------------------------------------------------------------- mistakes, and what is not there


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": "0"}, "--length 0: give valid, padded or the number of rows that each video is brought to"),
        ({"length": "all"}, "--length all: give valid"),
        (
            {"length": "valid", "target": "mmaction2"},
            "--length valid: the localizers of mmaction2 take the same number",
        ),
    ],
)
def test_wrong_settings(stored, tmp_path, options, sentence) -> None:
    with pytest.raises(UsageError) as error:
        stored([10.0]).export(tmp_path / "out", **options)
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_only_features_once_each(stored, tmp_path) -> None:
    data = stored([10.0])
    with pytest.raises(UsageError, match="--product clips/c: these tools read features; give some of features/a"):
        data.export(tmp_path / "out", products=[data.plan.product("clips/c")])
    with pytest.raises(UsageError, match="--product features/a is given twice"):
        data.export(tmp_path / "out", products=data.products * 2)


def test_dense_maps_are_refused(stored, tmp_path) -> None:
    data = stored([10.0])
    product, unit = data.products[0], data.plan.units[0]
    ledger = receipts.read_ledger(data.store, product.path, 0)
    receipts.retract(data.store, product.path, 0)
    with receipts.begin(data.store, product, unit) as writer:
        writer.file("maps-000000.tar").write(b"")
        writer.commit(ledger, items=0)
    with pytest.raises(UsageError, match=r"--product features/a holds C x T x H x W maps.* without `dense`"):
        data.export(tmp_path / "out")


def test_a_unit_that_is_not_made(stored, tmp_path) -> None:
    data = stored([10.0, 10.0, 10.0])
    receipts.retract(data.store, "features/a", 1)
    with pytest.raises(ReelmillError, match="features/a: 1 of its 2 units are still to be made; finish it with"):
        data.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_part_is_one_sentence(stored, tmp_path, damage) -> None:
    data = stored([10.0])
    path = Path(data.store.path("features/a/part-000000.parquet"))
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ReelmillError, match=r"part-000000.parquet is missing or damaged .* delete") as error:
        data.export(tmp_path / "out")
    assert "\n" not in str(error.value)


def test_an_id_too_long_for_a_file(stored, tmp_path) -> None:
    data = stored([10.0, 10.0], columns=[{"video_id": "x" * 252}])
    report = data.export(tmp_path / "out")
    assert report.left_out == {"x" * 252: "its id has more than 255 letters as a file's name"}
    assert report.num_files == 1


def test_nothing_to_export(stored, tmp_path) -> None:
    report = stored([None, None]).export(tmp_path / "out", target="opentad")
    assert (report.num_files, report.num_without) == (0, 2)
    assert read(tmp_path / "out/annotations.json") == {"database": {}}


def test_a_dataset_on_an_object_store(stored, tmp_path, tree, s3_uri) -> None:
    data = stored([10.0, 5.0])
    data.export(tmp_path / "from_disk")
    remote = Store(s3_uri.format("features"))
    root = Path(data.store.uri)
    for path in (path for path in root.rglob("*") if path.is_file()):
        remote.put(str(path.relative_to(root)), path.read_bytes())
    export_features(remote, data.plan, data.products, out=str(tmp_path / "from_s3"), target="npy")
    assert tree(tmp_path / "from_s3") == tree(tmp_path / "from_disk")
