"""Everything in a bucket: videos, lists, annotations, weights and the dataset; and each verb on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from pipeline import backbones
from pipeline.store import Store
from pipeline.synth import SynthSpec, make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CONFIG = """\
dataset: {dataset}
source: {{kind: activitynet, json: "{source_json}", videos: "{videos}"}}
clips:
  rgb16: {{frames: 16, fps: 8, resize: [64, 64]}}
features:
  small: {{from: clips/rgb16, model: small_rgb, weights: "{weights}"}}
heads:
  segments:
    kind: actionformer
    features: [small]
    epochs: 1
    annotations: {{kind: activitynet, json: "{source_json}"}}
"""


def reelmill(*arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == status, (arguments, ended.returncode, ended.stdout[-2000:], ended.stderr[-3000:])
    return ended.stdout + ended.stderr


@pytest.fixture
def config(s3_uri: str, s3_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "made"
    make_dataset(made, SynthSpec(num_classes=2, videos_per_class=1, duration_s=2.0, num_untrimmed=6, untrimmed_s=8.0))
    pafs.copy_files(str(made / "untrimmed"), "bucket/verbs/source", destination_filesystem=s3_server.filesystem())
    backbones.save(backbones.build("small_rgb", weights="random:1"), tmp_path / "w.safetensors")
    Store(s3_uri.format("verbs")).put("w.safetensors", (tmp_path / "w.safetensors").read_bytes())
    path = tmp_path / "config.yaml"
    places = {
        "dataset": s3_uri.format("verbs/dataset"),
        "source_json": s3_uri.format("verbs/source/activitynet.json"),
        "videos": s3_uri.format("verbs/source/videos"),
        "weights": s3_uri.format("verbs/w.safetensors"),
    }
    path.write_text(CONFIG.format(**places))
    return path


def test_every_verb(config: Path, s3_uri: str, tmp_path: Path) -> None:
    dataset = s3_uri.format("verbs/dataset")
    assert "6" in reelmill("index", str(config))
    summary = reelmill("run", str(config), "--workers", "2", "--json")
    assert json.loads(summary[summary.index("{") : summary.rindex("}") + 1])["failed"] == {}
    assert "features/small" in reelmill("status", dataset)
    reelmill("verify", dataset, "--clips", "2")
    reelmill("train", str(config))
    reelmill("evaluate", str(config))
    for to, product in (("npy", "features/small"), ("opentad", "features/small")):
        reelmill("export", dataset, "--to", to, "--product", product, "--out", str(tmp_path / to))
        assert any((tmp_path / to).rglob("*.npy"))
    elsewhere = ("--to", "npy", "--product", "features/small", "--out", s3_uri.format("out"))
    assert "local" in reelmill("export", dataset, *elsewhere, status=2)
    reelmill("report", dataset, "--out", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "<strong>Complete</strong>" in page
    assert page.count("<img ") == 3  # clips; curves and timeline of the head
    reelmill("weights", "inspect", s3_uri.format("verbs/w.safetensors"))
    reelmill("weights", "convert", s3_uri.format("verbs/w.safetensors"), str(tmp_path / "own.safetensors"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("synth", "s3://bucket/out"),
        ("weights", "convert", "w.safetensors", "s3://bucket/own.safetensors"),
        ("report", "s3://bucket/dataset", "--out", "s3://bucket/report.html"),
    ],
)
def test_what_is_written_for_people_goes_to_a_local_folder(arguments: tuple[str, ...]) -> None:
    assert "local" in reelmill(*arguments, status=2)
