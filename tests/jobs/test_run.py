"""`reelmill run` as a user types it, on real encoded videos, good and bad."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import webdataset

from pipeline.synth import SynthSpec, make_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: a subfolder per class, and among the good videos some that are not."""
    made = tmp_path_factory.mktemp("made")
    make_dataset(made, SynthSpec(num_classes=2, videos_per_class=6, duration_s=2.0))
    videos = made / "trimmed/videos"
    first = sorted(videos.rglob("*.mp4"))[0]
    (first.parent / "empty.mp4").write_bytes(b"")
    (first.parent / "text.mp4").write_text("this is no video\n" * 100)
    (first.parent / "cut.mp4").write_bytes(first.read_bytes()[:1000])
    return videos


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("run") / "out"
    command = [sys.executable, "-m", "jobs.cli", "run", str(folder), "--dataset", str(out)]
    command += ["--weights", "random:0", "--json"]
    return out, subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_command_from_a_folder_to_a_head(finished) -> None:
    out, ended = finished
    assert ended.returncode == 3, ended.stderr
    summary = json.loads(ended.stdout)
    rows = summary["products"]["clips/rgb16"]["rows"]
    assert (rows["ok"], rows["failed"]) == (12, 3)
    assert all(sum(product["rows"].values()) == 15 for product in summary["products"].values())
    assert {failure["reason"] for failure in summary["failed"].values()} == {"empty_file", "unreadable"}
    scores = summary["heads"]["heads/actions"]
    assert 0 <= scores["top1"] <= 1
    assert (out / "heads/actions/checkpoints/best.safetensors").exists()
    assert (out / "clips/rgb16/_preview.png").read_bytes().startswith(b"\x89PNG")


def test_it_says_what_it_spent_and_so_does_status(finished, reelmill) -> None:
    out, ended = finished
    spent = json.loads(ended.stdout)["run"]
    assert (spent["run"], spent["state"], list(spent["products"])) == (1, "done", ["clips/rgb16", "features/c3d"])
    clips = spent["products"]["clips/rgb16"]
    assert clips["videos"] == 15
    assert sum(clips["reasons"].values()) == 3
    assert clips["amplification"] >= 1
    assert sum(clips["shares"].values()) == pytest.approx(1)
    assert spent["bottleneck"]["sentence"].endswith(".")
    shown = reelmill("status", out)
    assert spent["bottleneck"]["sentence"] in " ".join(shown.stdout.split())
    assert "run 1: " in shown.stdout
    assert json.loads(reelmill("status", out, "--json").stdout)["run"] == spent


def test_the_tree_reads_without_reelmill(finished) -> None:
    out, _ = finished
    features = pq.read_table(out / "features/c3d")
    assert features.num_rows == 12
    assert features.schema.field("embedding").type.list_size == 4096
    shards = sorted(str(path) for path in (out / "clips/rgb16").glob("clips-*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(samples) == 12
    assert {sample["cls"] for sample in samples} == {b"0", b"1"}


def test_random_weights_are_on_the_card(finished) -> None:
    card = json.loads((finished[0] / "features/c3d/_card.json").read_text())
    assert "random" in json.dumps(card["details"]["weights"])
    assert card["settings"]["weights"] == "random:0"


def test_nothing_is_left_half_written(finished) -> None:
    left = [path for path in finished[0].rglob("*") if path.name in ("_tmp", "_work", "_ray")]
    assert left == []


def test_status_from_storage_alone(finished, reelmill) -> None:
    out, _ = finished
    ended = reelmill("status", out, "--json")
    assert ended.returncode == 0, ended.stderr
    status = json.loads(ended.stdout)
    assert [product["pending"] for product in status["products"]] == [0, 0, 0]
    assert len(status["failed"]) == 3
    shown = reelmill("status", out, "--failed")
    assert "empty.mp4" in shown.stdout


CONFIG = """\
dataset: {out}
source: {{kind: directory, videos: {videos}}}
budget: {{failed: 25%}}
clips:
  small: {{frames: 4, fps: 8, resize: [32, 32]}}
"""


@pytest.fixture(scope="module")
def clips(folder: Path, reelmill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that has been run once; its dataset is beside it."""
    home = tmp_path_factory.mktemp("clips")
    path = home / "config.yaml"
    path.write_text(CONFIG.format(out=home / "out", videos=folder))
    ended = reelmill("run", path)
    assert ended.returncode == 0, ended.stderr  # three videos of fifteen are within the budget
    return path


@pytest.fixture
def config(folder: Path, clips: Path, tmp_path: Path) -> Path:
    """CONFIG with a dataset of its own, as one run has left it."""
    shutil.copytree(clips.parent / "out", tmp_path / "out")  # times too
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "out", videos=folder))
    return path


def test_a_second_run_does_nothing(clips: Path, reelmill) -> None:
    out = clips.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert len(before) > 15
    assert reelmill("run", clips).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_a_card_of_settings_that_were_only_tried_is_put_right(config: Path, reelmill, tmp_path: Path) -> None:
    card = tmp_path / "out/clips/small/_card.json"
    right = card.read_bytes()
    tried = json.loads(right)
    tried["fingerprint"], tried["settings"]["fps"] = "of other settings", 4
    card.write_text(json.dumps(tried))
    assert reelmill("run", config).returncode == 0
    assert card.read_bytes() == right


def test_retry_failed_makes_only_units_with_failures(config: Path, reelmill, tmp_path: Path) -> None:
    shards = sorted((tmp_path / "out/clips/small").glob("clips-*.tar"))
    before = [path.stat().st_mtime_ns for path in shards]
    reelmill("run", config, "--retry-failed")
    changed = [old != path.stat().st_mtime_ns for old, path in zip(before, shards, strict=True)]
    assert sum(changed) == 3  # one video a unit here, three of them bad


def test_another_bound_makes_only_the_flow_anew(config: Path, reelmill, tmp_path: Path) -> None:
    clips, out = config.read_text(), tmp_path / "out"
    quick = "backend: opencv, params: {num_scales: 1, num_warps: 1, outer_iterations: 1}"

    def run(bound: float) -> tuple[str, dict[str, int], dict[str, bytes]]:
        config.write_text(f"{clips}flow:\n  tvl1: {{clips: small, bound: {bound}, {quick}}}\n")
        ended = reelmill("run", config)
        assert ended.returncode == 0, ended.stderr
        times = {path.name: path.stat().st_mtime_ns for path in (out / "clips").rglob("*") if path.is_file()}
        return ended.stderr, times, {path.name: path.read_bytes() for path in (out / "flow/tvl1").glob("*.*")}

    said, times, made = run(20)
    assert "flow" not in said.replace("flow/tvl1 ", "")
    assert made["_preview.png"].startswith(b"\x89PNG")
    said_again, times_again, made_again = run(0.02)
    assert times_again == times
    changed = {name for name, data in made.items() if made_again[name] != data}
    assert {"_card.json", "_preview.png"} <= changed
    assert sum(name.endswith(".tar") for name in changed) == 12  # a video a unit; three videos are bad and have no flow
    assert "flow lies beyond 0.02 px and was cut, so the bound looks too small" in said_again
    status = json.loads(reelmill("status", out, "--json").stdout)
    assert status["flow"]["flow/tvl1"]["saturated"] > 0.01
    rows = {product["product"]: product["rows"] for product in status["products"]}
    assert sum(rows["flow/tvl1"].values()) == sum(rows["clips/small"].values()) == 15


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("dataset: {out}\nsource: {{kind: directory, videos: /nowhere}}\n", 2, "/nowhere"),
        ("dataset: {out}\nsource: {{kind: directory, videos: {empty}}}\n", 1, "no"),
        (
            "dataset: {out}\nsource: {{kind: directory, videos: {videos}}}\nclips: {{a: {{frames: 16, fps: 5}}}}\n"
            "features: {{c: {{from: clips/a, model: c3d, weights: /nowhere.pickle}}}}\n",
            2,
            "config.yaml:4: features.c: /nowhere.pickle: can't read this file",
        ),
        (
            "dataset: {out}\nsource: {{kind: directory, videos: {videos}}}\nclips: {{a: {{frames: 16, fps: 5}}}}\n"
            "features: {{c: {{from: clips/a, model: c4d, weights: 'random:0'}}}}\n",
            2,
            "there is no model 'c4d'",
        ),
        pytest.param(
            "dataset: {out}\nsource: {{kind: directory, videos: {videos}}}\nclips: {{a: {{frames: 16, fps: 5}}}}\n"
            "flow: {{f: {{clips: a, backend: cuda}}}}\n",
            2,
            "config.yaml:4: flow.f: TV-L1: backend 'cuda' can't be used",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(text, status, words, folder: Path, reelmill, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(text.format(out=tmp_path / "out", empty=tmp_path / "empty", videos=folder))
    ended = reelmill("run", path)
    assert ended.returncode == status, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_needs_its_two_options(folder: Path, reelmill) -> None:
    ended = reelmill("run", folder)
    assert ended.returncode == 2
    assert "--dataset" in ended.stderr
    assert "--weights" in ended.stderr
