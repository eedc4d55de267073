"""`reelmill verify` as a user types it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.synth import SynthSpec, make_dataset

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
dataset: {out}
source: {{kind: kinetics, csv: {csv}, videos: {made}/trimmed/videos}}
clips:
  small: {{frames: 4, fps: 4, short_side: 64}}
features:
  net:
    {{from: clips/small, model: efficientnet_lite0, weights: random:1, layer: stage2, precision: fp32,
      preprocess: {{short_side: 48, crop: [40, 40]}}}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_products: Callable[[Path], None]) -> Path:
    """Clips and features of four synthetic videos of 2 s."""
    folder = tmp_path_factory.mktemp("verify")
    report = make_dataset(folder / "made", SynthSpec(num_classes=2, videos_per_class=2, duration_s=2.0))
    config = folder / "config.yaml"
    config.write_text(
        CONFIG.format(out=folder / "out", made=folder / "made", csv=folder / "made" / str(report.kinetics_csv))
    )
    make_products(config)
    return folder / "out"


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def verify(reelmill):
    def call(dataset: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return reelmill("verify", dataset, "--clips", "2", *words)

    return call


def test_a_fresh_dataset_passes(dataset) -> None:
    command = [sys.executable, "-m", "jobs.cli", "verify", str(dataset), "--clips", "2"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line.split() for line in ended.stdout.splitlines() if line.strip()]
    assert lines[0] == [str(dataset)]
    assert lines[1][:3] == ["product", "files", "MB"]
    assert (lines[3][0], lines[3][-1]) == ("clips/small", "ok")
    assert lines[3][3:7] == ["2", "clips", "from", "videos"]
    assert (lines[4][0], lines[4][-1]) == ("features/net", "ok")
    assert lines[4][3:9] == ["2", "rows", "from", "clips/small", "cosine", "1.000000"]
    assert lines[5][:6] == ["2", "rows", "from", "videos", "cosine", "1.000000"]


def test_faults_are_named_and_end_with_1(verify, dataset) -> None:
    part = dataset / "features/net/part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    ended = verify(dataset, "--product", "features/net", "--no-hash")
    assert ended.returncode == 1
    assert "FAULT: features/net: features/net/part-000001.parquet is truncated: " in ended.stdout
    assert "FAILED" in ended.stdout
    found = json.loads(verify(dataset, "--product", "features/net", "--json").stdout)
    assert found["dataset"] == str(dataset)
    (report,) = found["products"]
    assert (report["product"], report["verdict"], len(report["faults"])) == ("features/net", "FAILED", 1)
    assert [(c["made_from"], c["worst"] > 0.9999) for c in report["comparisons"]] == [
        ("clips/small", True),
        ("videos", True),
    ]


def test_what_could_not_be_checked_is_no_pass(verify, dataset) -> None:
    (dataset / "_config.json").unlink()
    shutil.rmtree(dataset / "clips")
    ended = verify(dataset)
    assert ended.returncode == 3
    assert "not all checked" in ended.stdout
    assert (
        "not checked: features/net: it was made from clips/small, which is not beside it: no row can be made again"
        in ended.stdout
    )
    assert verify(dataset, "--clips", "0").returncode == 0  # hashes only, as asked


def test_wrong_words_end_with_2(verify, dataset, tmp_path) -> None:
    ended = verify(dataset, "--product", "flow/none")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"reelmill: --product flow/none: {dataset} has no such product, only clips/small, features/net\n"
    )
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    ended = verify(dataset, "--weights", other)
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        f"reelmill: --weights {other}: its sha256 is d9298a10d1b0…, and features/net was made"
    )
    ended = verify(tmp_path / "nothing")
    assert (ended.returncode, ended.stdout) == (2, "")
