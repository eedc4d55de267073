"""A folder and a file of weights become the config that the model's recipe asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.folder_config import folder_config
from pipeline.backbones import build, save
from schemas.errors import ReelmillError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/one.mp4", "b/two.avi"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path / "videos"


def test_random_weights_are_those_of_c3d(folder: Path) -> None:
    config = folder_config(folder, dataset="out", weights="random:0", model=None)
    assert list(config.clips) == ["rgb16"]
    assert (config.features["c3d"].source, config.features["c3d"].layer) == ("clips/rgb16", "fc6")
    assert config.heads["actions"].features == ("c3d",)


def test_the_model_is_told_by_the_weights(folder: Path, tmp_path: Path) -> None:
    save(build("i3d_rgb", weights="random:0"), tmp_path / "w.safetensors")
    config = folder_config(folder, dataset="out", weights=str(tmp_path / "w.safetensors"), model=None)
    clips = config.clips["rgb64"]
    assert (clips.frames, clips.fps, clips.short_side) == (64, 25, 256)
    assert config.features["i3d_rgb"].model == "i3d_rgb"


def test_clips_are_those_of_the_variant_that_a_file_is_of(folder: Path, tmp_path: Path) -> None:
    save(build("i3d_r50", weights="random:0", options={"variant": "32x2"}), tmp_path / "w.safetensors")
    config = folder_config(folder, dataset="out", weights=str(tmp_path / "w.safetensors"), model=None)
    assert [(clips.frames, clips.fps) for clips in config.clips.values()] == [(32, 15)]


def test_weights_of_a_package_that_two_models_take(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"imagenet: efficientnet_lite0 and .*_inflated take these weights; say which"):
        folder_config(folder, dataset="out", weights="imagenet", model=None)
    config = folder_config(folder, dataset="out", weights="imagenet", model="efficientnet_lite0")
    assert list(config.features) == ["efficientnet_lite0"]


def test_a_flow_model_gets_flow(folder: Path) -> None:
    config = folder_config(folder, dataset="out", weights="random:0", model="i3d_flow")
    assert config.flow["tvl1"].clips == "rgb64"
    assert config.flow["tvl1"].num_fields(config.clips["rgb64"]) == 64
    assert config.features["i3d_flow"].source == "flow/tvl1"


def test_a_model_of_single_frames_gets_clips_all_the_same(folder: Path) -> None:
    config = folder_config(folder, dataset="out", weights="random:0", model="efficientnet_lite0")
    assert config.clips["rgb16"].frames == 16


def test_a_folder_without_classes_gets_no_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not folder_config(tmp_path, dataset="out", weights="random:0", model=None).heads
    assert "no classes to tell apart" in capsys.readouterr().err


def test_what_is_missing_or_unknown_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dataset, and which weights to use with --weights"):
        folder_config(folder, dataset=None, weights="random:0", model=None)
    with pytest.raises(UsageError, match="nothing is named 'i4d'"):
        folder_config(folder, dataset="out", weights="random:0", model="i4d")
    with pytest.raises(ReelmillError, match="can't read the weights"):
        folder_config(folder, dataset="out", weights=str(tmp_path / "nothing.pt"), model=None)
