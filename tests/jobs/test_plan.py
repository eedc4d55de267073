"""`reelmill plan` as a user types it, on real encoded videos; and what `status` says of it after a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.synth import SynthSpec, make_dataset
from schemas.forecast import Forecast

CONFIG = """
dataset: {out}
source: {{kind: directory, videos: {videos}}}
clips:
  rgb: {{frames: 8, fps: 8, resize: [48, 64]}}
flow:
  tvl1: {{clips: rgb, backend: opencv, params: {{num_scales: 1, num_warps: 1, outer_iterations: 1}}}}
features:
  small: {{from: clips/rgb, model: small_rgb, weights: "random:0"}}
heads:
  lin: {{kind: linear, features: [small], epochs: 1}}
"""


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty short videos and one that is none."""
    made = tmp_path_factory.mktemp("made")
    make_dataset(made, SynthSpec(num_classes=2, videos_per_class=10, duration_s=2.0))
    videos = made / "trimmed/videos"
    (next(videos.iterdir()) / "text.mp4").write_text("this is no video\n" * 100)
    return videos


@pytest.fixture(scope="module")
def config(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "config.yaml"
    path.write_text(CONFIG.format(out=path.parent / "out", videos=folder))
    return path


@pytest.fixture(scope="module")
def planned(config: Path) -> subprocess.CompletedProcess[str]:
    cluster = ("--nodes", 8, "--cores", 32, "--price", 1.5)
    return program("plan", config, "--videos", 21, "--minutes", 0.2, *cluster, "--json")


@pytest.mark.slow
def test_a_plan_of_a_small_dataset(planned) -> None:
    assert planned.returncode == 0, planned.stderr
    found = Forecast.model_validate_json(planned.stdout)
    assert (found.num_videos, found.num_units, found.num_probed) == (21, 21, 21)
    assert found.num_probes_failed == 1
    clips, features, flow = found.products
    assert [product.product for product in found.products] == ["clips/rgb", "features/small", "flow/tvl1"]
    assert clips.items.value == pytest.approx(40, abs=4)  # twenty videos of two seconds, clips of one
    assert features.items.value == pytest.approx(clips.items.value)
    assert flow.items.value == pytest.approx(clips.items.value)
    assert all(product.worker_s.value > 0 and product.bytes.value > 0 for product in found.products)
    assert clips.objects == 4 * 21 + 1  # shard, index, ledger and receipt of each unit, and the card
    assert found.wall_s.low <= found.wall_s.value <= found.wall_s.high
    assert found.cost is not None
    assert found.cost.value == pytest.approx(found.wall_s.value / 3600 * 8 * 1.5)
    assert any("lin" in line for line in found.assumptions)


@pytest.mark.slow
def test_a_plan_leaves_nothing_but_itself_and_the_manifest(planned, config: Path) -> None:
    out = config.parent / "out"
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert left == ["_manifest_issues.csv", "_runs/plan.json", "labels.json", "manifest.parquet"]
    kept = Forecast.model_validate_json((out / "_runs/plan.json").read_text())
    assert kept == Forecast.model_validate_json(planned.stdout)


@pytest.mark.slow
@pytest.mark.cluster
def test_status_lays_what_was_planned_beside_what_was_spent(planned, config: Path) -> None:
    before = program("status", config, "--json")
    assert json.loads(before.stdout)["plan"] is None
    ran = program("run", config)
    assert ran.returncode == 3, ran.stderr  # one video is none
    found = json.loads(program("status", config, "--json").stdout)["plan"]
    assert [product["product"] for product in found["products"]] == ["clips/rgb", "features/small", "flow/tvl1"]
    for product in found["products"]:
        assert product["videos"] == 21
        assert product["bytes"]["ratio"] == pytest.approx(1, abs=0.05)
        assert product["worker_s"]["actual"] > 0
        assert product["worker_s"]["predicted"] > 0
    assert found["wall_s"]["actual"] > 0
    shown = program("status", config).stdout
    assert "planned : actual" in shown
    assert "clips/rgb" in shown


@pytest.mark.slow
def test_a_rate_that_is_given_moves_features_to_gpus(reelmill, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        CONFIG.format(out=tmp_path / "out", videos=folder).partition("flow:")[0] + "features:\n"
        '  small: {from: clips/rgb, model: small_rgb, weights: "random:0"}\n'
    )
    given = ("--gpus", 2, "--gpu-rate", "small=10")
    ended = reelmill("plan", path, "--videos", 4, "--minutes", 0.02, *given, "--json")
    assert ended.returncode == 0, ended.stderr
    found = Forecast.model_validate_json(ended.stdout)
    features = found.products[1]
    assert (features.device, features.source) == ("gpu", "given")
    assert found.gpu_s.value == pytest.approx(features.items.value / 10)
    assert any("given, not measured: small" in line for line in found.assumptions)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu-rate", "c3d=9", "--gpus", "1"), "no features 'c3d'; it has small"),
        (("--gpu-rate", "small=fast", "--gpus", "1"), "want NAME=CLIPS_PER_S"),
        (("--gpu-rate", "small=-1", "--gpus", "1"), "want NAME=CLIPS_PER_S"),
        (("--gpu-rate", "small=9", "--gpus", "0"), "the cluster has no GPU"),
        (("--gpu-nodes", "2", "--gpus", "0"), "how many GPUs each of them has"),
        (("--gpu-price", "2"), "--gpu-price goes with --gpu-nodes"),
        (("--gpu-nodes", "2", "--gpus", "4", "--price", "1"), "give --price and --gpu-price both"),
        (("--videos", "0"), "--videos"),
        (("--nodes", "0"), "--nodes"),
    ],
)
def test_options_that_can_not_be_meant(reelmill, folder: Path, tmp_path: Path, options, words) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "out", videos=folder))
    ended = reelmill("plan", path, *options)
    assert ended.returncode == 2, ended.stderr
    assert words in " ".join(ended.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_config_that_makes_nothing(reelmill, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"dataset: {tmp_path}/out\nsource: {{kind: directory, videos: {folder}}}\n")
    ended = reelmill("plan", path)
    assert ended.returncode == 2
    assert "there is nothing to predict" in ended.stderr


def test_a_folder_without_videos(reelmill, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "out", videos=tmp_path / "videos"))
    ended = reelmill("plan", path)
    assert ended.returncode == 1
    assert "gives no row" in ended.stderr


def test_videos_of_which_none_can_be_used(reelmill, tmp_path: Path) -> None:
    (tmp_path / "videos/a").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"videos/a/{number}.mp4").write_text("this is no video\n" * 100)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(out=tmp_path / "out", videos=tmp_path / "videos"))
    ended = reelmill("plan", path, "--minutes", "0.02")
    assert ended.returncode == 1
    assert "clips/rgb: not one of the 3 videos that were looked at could be used (unreadable)" in ended.stderr
    assert not (tmp_path / "out/_runs").exists()
