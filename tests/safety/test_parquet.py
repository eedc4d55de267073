"""A Parquet file with a column of pickles, as Ray Data writes them: they are bytes to whoever reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from payload import pickled

from pipeline.synth import SynthSpec, make_dataset

READ = "import sys, pyarrow.parquet as pq; print(pq.read_table(sys.argv[1]).to_pylist())"
COLUMN = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}


def with_pickles(table: pa.Table, mark: Path) -> pa.Table:
    field = pa.field("extra", pa.large_binary(), metadata=COLUMN)
    return table.append_column(field, pa.array([pickled(mark, protocol=5)] * len(table), pa.large_binary()))


def read(path: Path, *modules: str) -> str:
    """What a process prints of a table that has imported these modules."""
    command = [sys.executable, "-c", "".join(f"import {module}\n" for module in modules) + READ, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("modules", [["jobs.run"], ["jobs.train", "ray.data"], ["pipeline.runner.worker", "ray.train"]])
def test_the_column_is_bytes(modules: list[str], tmp_path: Path, mark: Path) -> None:
    pq.write_table(with_pickles(pa.table({"a": [1]}), mark), tmp_path / "a.parquet")
    assert "'extra': b'" in read(tmp_path / "a.parquet", *modules)


def test_with_ray_data_alone_it_is_run(tmp_path: Path) -> None:
    """Else no test here could fail. When this one does, Ray has become safer and pipeline.runner.no_pickles may go."""
    pq.write_table(with_pickles(pa.table({"a": [1]}), tmp_path / "ran"), tmp_path / "a.parquet")
    read(tmp_path / "a.parquet", "ray.data")
    assert (tmp_path / "ran").exists()


@pytest.mark.cluster
def test_a_manifest_with_such_a_column(tmp_path: Path, mark: Path) -> None:
    """Through a whole run: its driver and its workers read every column."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    make_dataset(videos, SynthSpec(num_classes=2, videos_per_class=1, duration_s=2.0))
    source = f"{{kind: kinetics, csv: {videos}/trimmed/kinetics.csv, videos: {videos}/trimmed/videos}}"
    (tmp_path / "config.yaml").write_text(
        f"dataset: {out}\nsource: {source}\nclips: {{rgb16: {{frames: 16, fps: 8, resize: [32, 32]}}}}\n"
    )
    reelmill = [sys.executable, "-m", "jobs.cli"]
    subprocess.run([*reelmill, "index", str(tmp_path / "config.yaml")], check=True, capture_output=True)
    manifest = out / "manifest.parquet"
    pq.write_table(with_pickles(pq.read_table(manifest), mark), manifest)
    run = [*reelmill, "run", str(tmp_path / "config.yaml"), "--workers", "1"]
    ended = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list((out / "clips/rgb16/_receipts").iterdir())
    assert "extra" in pq.read_schema(manifest).names, "the run made a manifest of its own"
