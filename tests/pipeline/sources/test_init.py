import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.csv as pacsv
import pytest

from pipeline.sources import ISSUES, LABELS, SOURCE_KEY, build_manifest, index_source, source_json
from pipeline.store import Store
from pipeline.units import MANIFEST, plan_units, read_manifest, unit_rows
from schemas.errors import ReelmillError
from schemas.sources import ActivityNetSource, DirectorySource, KineticsSource

ROOT = Path(__file__).resolve().parents[3]
HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def kinetics(make_tree, write) -> KineticsSource:
    root = make_tree("abc_000001_000011.mp4", "def_000002_000012.mp4", "more.mp4", "notes.txt")
    csv = HEADER + '"a, b",abc,1,11,train,0\nzoom,def,2,12,val,0\nzoom,gone,2,12,val,0\n"zo""om,bad\n'
    return KineticsSource(kind="kinetics", csv=str(write("k.csv", csv)), videos=str(root))


def test_what_is_written(kinetics, tmp_path) -> None:
    store = Store(str(tmp_path / "out"))
    report = build_manifest(store, kinetics)
    assert set(files_of(tmp_path / "out")) == {MANIFEST, LABELS, ISSUES}
    assert not (tmp_path / "out" / "_tmp").exists()
    assert json.loads(store.read(LABELS)) == ["a, b", "zoom"]
    manifest = read_manifest(store)
    assert manifest.schema.metadata[SOURCE_KEY] == source_json(kinetics)
    assert manifest["video_id"].to_pylist() == ["abc_000001_000011~mp4", "def_000002_000012~mp4"]
    assert (report.num_rows, report.num_labels, report.num_ignored) == (2, 2, 1)
    assert report.splits == {"train": 1, "val": 1}
    assert report.issue_counts == {"file_without_row": 1, "malformed_row": 1, "row_without_file": 1}
    assert str(report).startswith("2 videos, 2 labels, 1 train, 1 val, 1 × file_without_row")
    with store.open(ISSUES) as file:
        listed = pacsv.read_csv(file).to_pylist()
    assert listed == report.issues.to_pylist()
    assert [row["value"] for row in listed] == ["more.mp4", '"zo""om,bad', "gone_000002_000012"]


def test_stages_read_the_rows_back(make_tree, write, tmp_path) -> None:
    """Segments too: the extra columns are those that VideoRow knows."""
    database = {"a": {"subset": "training", "annotations": [{"segment": [1, 2.5], "label": "run"}]}}
    path = write("a.json", json.dumps({"database": database}))
    store = Store(str(tmp_path / "out"))
    build_manifest(store, ActivityNetSource(kind="activitynet", json=str(path), videos=str(make_tree("v_a.mp4"))))
    (unit,) = plan_units(read_manifest(store), 64)
    (row,) = unit_rows(store, unit)
    assert (row.labels, row.label_ids, row.split) == (("run",), (0,), "train")
    assert [(s.start_s, s.end_s, s.label_id) for s in row.segments] == [(1.0, 2.5, 0)]


def test_source_settings_are_told_apart(kinetics) -> None:
    assert source_json(kinetics) == source_json(kinetics.model_copy())
    assert source_json(kinetics) != source_json(kinetics.model_copy(update={"layout": "full"}))
    assert json.loads(source_json(kinetics))["csv"] == kinetics.csv
    section = ActivityNetSource(kind="activitynet", json="a.json", videos="v")
    assert json.loads(source_json(section)) == {"kind": "activitynet", "json": "a.json", "videos": "v"}


def test_bytes_do_not_depend_on_the_order_of_the_listing(make_tree, tmp_path, monkeypatch) -> None:
    names = [f"{folder}/{n}.mp4" for folder in ("b", "a", "c d") for n in range(20)]
    source = DirectorySource(kind="directory", videos=str(make_tree(*names)))
    real = os.scandir
    seen = []
    for seed in range(3):

        class Shuffled:
            def __init__(self, path, seed=seed) -> None:
                with real(path) as entries:
                    self.entries = list(entries)
                random.Random(seed).shuffle(self.entries)

            def __enter__(self):
                return iter(self.entries)

            def __exit__(self, *error) -> None:
                pass

        monkeypatch.setattr(os, "scandir", Shuffled)
        build_manifest(Store(str(tmp_path / f"out{seed}")), source)
        monkeypatch.setattr(os, "scandir", real)
        seen.append(files_of(tmp_path / f"out{seed}"))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 3


def test_a_changed_file_changes_its_unit_only(make_tree, tmp_path) -> None:
    root = make_tree(*(f"{n}.mp4" for n in range(6)))
    source = DirectorySource(kind="directory", videos=str(root))
    before = plan_units(index_source(source).table, 2)
    (root / "3.mp4").write_bytes(b"longer than it was")
    after = plan_units(index_source(source).table, 2)
    assert [b.rows_sha256 == a.rows_sha256 for b, a in zip(before, after, strict=True)] == [True, False, True]


def test_nothing_to_index(make_tree, kinetics, tmp_path) -> None:
    """One sentence; the issues are there to read, and an earlier manifest stays."""
    store = Store(str(tmp_path / "out"))
    build_manifest(store, kinetics)
    before = store.read(MANIFEST)
    empty = make_tree("notes.txt", folder="empty")
    with pytest.raises(ReelmillError, match=r"no manifest was written \(1 files that are not videos\)$"):
        build_manifest(store, DirectorySource(kind="directory", videos=str(empty)))
    with pytest.raises(ReelmillError, match=r"1 × malformed_row, 3 × row_without_file.*_manifest_issues\.csv$"):
        build_manifest(store, kinetics.model_copy(update={"videos": str(empty)}))
    assert store.read(MANIFEST) == before
    assert store.read(ISSUES).count(b"row_without_file") == 3
    assert not (tmp_path / "out" / "_tmp").exists()


def test_progress(make_tree, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.sources.listing._PROGRESS_EVERY", 1)
    seen: list[int] = []
    index_source(DirectorySource(kind="directory", videos=str(make_tree("a.mp4", "b.mp4"))), progress=seen.append)
    assert seen == [1, 2]


def test_killed_at_any_moment(make_tree, tmp_path) -> None:
    """What a reader sees is no manifest or the whole one, and the next run ends as if nothing had happened."""
    root = make_tree(*(f"{n % 7}/{n}.mp4" for n in range(3000)))
    source = DirectorySource(kind="directory", videos=str(root))
    build_manifest(Store(str(tmp_path / "calm")), source)
    calm = files_of(tmp_path / "calm")
    code = "import sys; from pipeline.sources import build_manifest; from pipeline.store import Store; "
    code += "from schemas.sources import DirectorySource; s = DirectorySource(kind='directory', videos=sys.argv[1]); "
    code += "print('ready', flush=True)\nwhile True: build_manifest(Store(sys.argv[2]), s)"
    rng = random.Random(0)
    for number in range(4):
        out = tmp_path / f"killed{number}"
        command = [sys.executable, "-c", code, str(root), str(out)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        left = files_of(out) if out.exists() else {}
        assert {name: data for name, data in left.items() if not name.startswith("_tmp/")}.items() <= calm.items()
        build_manifest(Store(str(out)), source)
        assert files_of(out) == calm


@pytest.mark.slow
def test_a_dataset_in_a_bucket(s3_uri, make_tree) -> None:
    store = Store(s3_uri.format("index_dataset"))
    report = build_manifest(store, DirectorySource(kind="directory", videos=str(make_tree("a/x.mp4"))))
    assert report.num_rows == 1
    assert read_manifest(store)["video_id"].to_pylist() == ["a+x~mp4"]
    assert store.files("") == [ISSUES, LABELS, MANIFEST]
