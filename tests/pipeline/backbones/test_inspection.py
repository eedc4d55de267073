"""The facts of a weights file, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bundle_writer import write_bundle
from safetensors.torch import save_file
from tiny_models import elsewhere, on_tensorflow, register, tiny

from pipeline.backbones import save
from pipeline.backbones.identity import file_sha256
from pipeline.backbones.inspection import inspect
from schemas.errors import ReelmillError


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())


def test_every_fact(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    state = {**elsewhere(9), "ema.x": torch.ones(1), "aux.weight": torch.ones(2, dtype=torch.float16)}
    torch.save({"state_dict": state, "epoch": 3}, path)
    facts = inspect(path)
    assert facts == {
        "file": str(path),
        "container": "torch",
        "sha256": file_sha256(path),
        "arrays": 9,
        "dtypes": {"float16": 1, "float32": 8},
        "models": [
            {
                "model": "tiny",
                "modality": "rgb",
                "format": "elsewhere",
                "classifier": "head",
                "num_classes": 9,
                "parameters": 4 * 3 * 27 + 4 + 4 + 9 * 4 + 9,
                "options": {"pool": "mean"},
                "recipe": "own",
                "default_layer": "pool",
                "layers": {"body": 4, "pool": 4, "head": 9},
                "map_layers": ["body"],
                "note": "set pool: max",
                "unused": ["aux.weight", "epoch"],
                "ignored": {r"^ema\.": 1},
            }
        ],
    }
    assert json.loads(json.dumps(facts)) == facts


def test_a_tensorflow_checkpoint(tmp_path: Path) -> None:
    write_bundle(tmp_path / "model.ckpt", on_tensorflow())
    by_prefix, by_index = inspect(tmp_path / "model.ckpt"), inspect(tmp_path / "model.ckpt.index")
    assert by_prefix["container"] == "TensorFlow checkpoint"
    assert by_prefix["models"][0]["format"] == "on TensorFlow"
    assert by_prefix["models"][0]["num_classes"] is None
    assert list(by_prefix["models"][0]["layers"]) == ["body", "pool"]
    assert {**by_index, "file": by_prefix["file"]} == by_prefix


def test_our_own_file_with_its_options(tmp_path: Path) -> None:
    from pipeline.backbones import build

    save(build("tiny", weights="random:1", options={"pool": "max"}), tmp_path / "own.safetensors")
    facts = inspect(tmp_path / "own.safetensors")
    assert facts["container"] == "safetensors"
    assert facts["models"][0]["format"] == "reelmill"
    assert facts["models"][0]["options"] == {"pool": "max"}


def test_all_models_that_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny(), tiny("other"), tiny("flow", "flow"))
    torch.save(elsewhere(), tmp_path / "a.pth")
    assert [model["model"] for model in inspect(tmp_path / "a.pth")["models"]] == ["tiny", "other"]


def test_a_file_that_nobody_takes(tmp_path: Path) -> None:
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(2), "head.x": torch.zeros(1)}, str(tmp_path / "vit.safetensors"))
    with pytest.raises(ReelmillError) as error:
        inspect(tmp_path / "vit.safetensors")
    assert str(error.value) == (
        f"{tmp_path / 'vit.safetensors'}: no model here takes these weights; it looks like vision transformer weights; "
        "the keys begin blocks.0.attn.qkv.weight, head.x"
    )
