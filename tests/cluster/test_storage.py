"""A bucket's server dies in mid-run: what a run needs of it comes later, and the tree is the one of a quiet day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from trees import tree

from pipeline import receipts
from pipeline.storage.patience import PATIENCE_VARIABLE
from pipeline.store import Store
from pipeline.synth import SynthSpec, make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# how long the server is away each time; a claim of "30 s" is this file with REELMILL_AWAY_S=30
AWAY_S = float(os.environ.get("REELMILL_AWAY_S", "8"))
CLIPS = """\
dataset: {out}
source: {{kind: kinetics, csv: "{csv}", videos: "{videos}"}}
units: {{videos_per_unit: 1}}
clips:
  rgb16: {{frames: 16, fps: 8, resize: [32, 40]}}
"""
ALL = (
    CLIPS
    + """\
flow:
  tvl1: {{clips: rgb16, resize: [24, 32], encoding: npy, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  net: {{from: clips/rgb16, model: small_rgb, weights: "random:0", preprocess: {{resize: none, crop: [32, 32]}}}}
"""
)


@pytest.fixture(scope="module")
def source(mortal_s3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the videos and their list are: in the bucket as well."""
    folder = tmp_path_factory.mktemp("videos")
    make_dataset(folder, SynthSpec(num_classes=2, videos_per_class=3, duration_s=2.0))
    pafs.copy_files(
        str(folder / "trimmed"), "bucket/source", destination_filesystem=mortal_s3.filesystem(), use_threads=False
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in mortal_s3.credentials().items():
            patch.setenv(name, value)
        yield {"csv": mortal_s3.uri("source/kinetics.csv"), "videos": mortal_s3.uri("source/videos")}


def start(config: str, folder: Path, **fields: str) -> subprocess.Popen[str]:
    path = folder / "config.yaml"
    path.write_text(config.format(**fields))
    command = [sys.executable, "-m", "jobs.run", str(path), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """The summary of a run that went well, in which no row failed."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out)["failed"] == {}
    return err


def wait_for_receipts(server, dataset: str, number: int, process: subprocess.Popen[str]) -> int:
    selector = pafs.FileSelector(f"bucket/{dataset}", recursive=True, allow_not_found=True)
    filesystem = server.filesystem()
    for _ in range(3000):
        found = sum("/_receipts/" in info.path for info in filesystem.get_file_info(selector))
        if found >= number or process.poll() is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {number} receipts after minutes")


@pytest.fixture(scope="module")
def on_disk(source: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("quiet")
    finish(start(ALL, folder, out=str(folder / "out"), **source))
    return tree(folder / "out")


def test_a_server_killed_twice_costs_time_only(mortal_s3, source, on_disk, tmp_path: Path) -> None:
    process = start(ALL, tmp_path, out=mortal_s3.uri("killed"), **source)
    receipts_at = 0
    for more in (1, 4):
        receipts_at = wait_for_receipts(mortal_s3, "killed", receipts_at + more, process)
        assert process.poll() is None, process.communicate()[1][-3000:]
        mortal_s3.kill()
        time.sleep(AWAY_S)
        assert mortal_s3.start(), mortal_s3.log()
    finish(process)
    assert tree(mortal_s3.uri("killed")) == on_disk


def test_a_server_away_for_longer_than_our_patience(
    mortal_s3, source, on_disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "2")
    process = start(CLIPS, tmp_path, out=mortal_s3.uri("away"), **source)
    wait_for_receipts(mortal_s3, "away", 1, process)
    mortal_s3.kill()
    try:
        _, err = process.communicate(timeout=300)
    finally:
        assert mortal_s3.start(), mortal_s3.log()
    assert process.returncode == 1, err[-3000:]
    assert "storage did not answer for 2 s" in err
    assert "Traceback" not in err
    store = Store(mortal_s3.uri("away"))
    for unit in receipts.committed_units(store, "clips/rgb16"):
        assert not receipts.load(store, "clips/rgb16", unit).rows["failed"]
    monkeypatch.delenv(PATIENCE_VARIABLE)
    finish(start(CLIPS, tmp_path, out=mortal_s3.uri("away"), **source))
    clips = {path: digest for path, digest in on_disk.items() if path.startswith(("clips/", "manifest"))}
    assert {path: digest for path, digest in tree(store.uri).items() if path in clips} == clips
