"""`reelmill weights` as a user types it: on small nets in this process, on C3D as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "pipeline" / "backbones"))  # its small models

from bundle_writer import write_bundle  # noqa: E402
from tiny_models import elsewhere, on_tensorflow, register, tiny  # noqa: E402

from jobs.weights import convert, inspect_file  # noqa: E402
from pipeline.backbones import build, save  # noqa: E402
from pipeline.backbones.identity import file_sha256  # noqa: E402
from schemas.errors import ReelmillError, UsageError  # noqa: E402


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Weights in another project's naming, with 12 keys that nothing takes."""
    path = tmp_path / "theirs.pth"
    aux = {f"aux{number:02d}.weight": torch.ones(1) for number in range(12)}
    torch.save({**elsewhere(9), **aux, "ema.x": torch.ones(1)}, path)
    return path


# ---------------------------------------------------------------- inspect


def test_inspect_prints_every_fact(small: None, theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_file(str(theirs))
    assert capsys.readouterr().out.splitlines() == [
        f"{theirs}: torch, 20 arrays (20 float32)",
        f"  sha256      {file_sha256(theirs)}",
        "  model       tiny (rgb), in the format of elsewhere",
        "  classes     9 (head)",
        "  parameters  377",
        "  options     pool: mean",
        "  recipe      own",
        "  layers      body 4, pool 4, head 9; the default is pool",
        "  maps        body",
        "  note        set pool: max",
        "  unused      12 keys: aux00.weight, aux01.weight, aux02.weight, aux03.weight, aux04.weight, aux05.weight, "
        "aux06.weight, aux07.weight and 4 more",
        r"  ignored     1 key like ^ema\.",
    ]


def test_inspect_for_machines_names_every_key(small: None, theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_file(str(theirs), as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"][0]["unused"] == [f"aux{number:02d}.weight" for number in range(12)]
    assert facts["sha256"] == file_sha256(theirs)


def test_inspect_without_a_classifier_on_tensorflow(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "model.ckpt", on_tensorflow())
    inspect_file(str(tmp_path / "model.ckpt.index"))
    printed = capsys.readouterr().out
    assert "model.ckpt.index: TensorFlow checkpoint, 4 arrays (4 float32)" in printed
    assert "classes     no classifier: features only" in printed
    assert "unused" not in printed


def test_a_file_that_nobody_takes_as_a_user_sees_it(reelmill, tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save({"layer4.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, path)
    sentence = (
        f"{path}: no model here takes these weights; it looks like ResNet weights; "
        "the keys begin layer4.0.conv1.weight, fc.bias"
    )
    ended = reelmill("weights", "inspect", path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"reelmill: {sentence}\n")
    for action in (lambda: inspect_file(str(path), as_json=True), lambda: convert(str(path), f"{path}.safetensors")):
        with pytest.raises(ReelmillError) as error:
            action()
        assert str(error.value) == sentence
    assert [entry.name for entry in tmp_path.iterdir()] == ["resnet50.pth"]


def test_wrong_usage_as_a_user_sees_it(reelmill, tmp_path: Path) -> None:
    ended = reelmill("weights", "convert", tmp_path / "a.pth", tmp_path / "out.pth")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"reelmill: {tmp_path / 'out.pth'}: the converted file is .safetensors; give it that name\n"


def test_the_module_is_the_verb_too() -> None:
    command = [sys.executable, "-m", "jobs.weights", "inspect", "nowhere.pth"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "nowhere.pth: can't read the weights (No such file or directory); check the path" in ended.stderr


# ---------------------------------------------------------------- convert


def test_convert_keeps_every_number(
    small: None, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own.safetensors"
    convert(str(theirs), str(out), option=["pool=max"])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"{out}: written",
        "  tiny weights (elsewhere), 9 classes, pool: max",
        f"  sha256 {file_sha256(out)}",
        "  note: set pool: max",
        "  left out, as tiny has no place for it: aux00.weight, aux01.weight, aux02.weight, aux03.weight, "
        "aux04.weight, aux05.weight, aux06.weight, aux07.weight and 4 more",
    ]
    before, after = build("tiny", weights=str(theirs), options={"pool": "max"}), build("tiny", weights=str(out))
    assert after.options == {"pool": "max"}
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())
    clips = torch.rand(2, 3, 4, 9, 9)
    assert torch.equal(before(clips), after(clips))
    convert(str(out), str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == out.read_bytes()


def test_nothing_is_overwritten_but_by_itself(
    small: None, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own.safetensors"
    convert(str(theirs), str(out))
    whole, made_ns = out.read_bytes(), out.stat().st_mtime_ns
    convert(str(theirs), str(out))
    assert f"{out}: already holds exactly this" in capsys.readouterr().out
    assert out.stat().st_mtime_ns == made_ns
    with pytest.raises(UsageError, match="exists and holds something else; give another name, or remove it first"):
        convert(str(theirs), str(out), option=["pool=max"])
    assert out.read_bytes() == whole
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UsageError, match="exists and holds something else"):
        convert(str(theirs), str(tmp_path / "folder.safetensors"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.safetensors", out.name, theirs.name]


def test_a_failed_write_leaves_nothing(
    small: None, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(net: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise ReelmillError("no space left")

    monkeypatch.setattr("pipeline.backbones.save", full)
    with pytest.raises(ReelmillError, match="no space"):
        convert(str(theirs), str(tmp_path / "own.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == [theirs.name]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"option": ["pool"]}, "--option pool: write KEY=VALUE, such as pool5=symmetric"),
        ({"option": ["=max"]}, "--option =max: write KEY=VALUE"),
        ({"option": ["pool=[1"]}, r"--option pool=\[1: write KEY=VALUE"),
        ({"option": ["pool=median"]}, "model_options.pool: write mean or max, got 'median'"),
        ({"option": ["num_classes=10"]}, "has 9 classes, not 10"),
        ({"model": "c9d"}, "model: nothing is named 'c9d'; this version has tiny"),
        ({"out": "nowhere/own.safetensors"}, "there is no folder .*nowhere; make it first"),
    ],
)
def test_mistakes_are_one_sentence(small: None, theirs: Path, tmp_path: Path, settings: dict, sentence: str) -> None:
    out = str(tmp_path / settings.pop("out", "own.safetensors"))
    with pytest.raises(UsageError, match=sentence):
        convert(str(theirs), out, **settings)
    assert [path.name for path in tmp_path.iterdir()] == [theirs.name]


def test_a_file_that_several_models_take(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny("one"), tiny("two"))
    out = str(tmp_path / "own.safetensors")
    with pytest.raises(UsageError, match="several models take these weights; say --model one or two"):
        convert(str(theirs), out)
    convert(str(theirs), out, model="two")
    inspect_file(out)
    with pytest.raises(ReelmillError, match="not one weights, but two weights"):
        build("one", weights=out)


def test_random_weights_are_no_file(small: None, tmp_path: Path) -> None:
    for file in ("random:0", "imagenet"):
        with pytest.raises(ReelmillError, match="No such file"):
            convert(file, str(tmp_path / "own.safetensors"), model="tiny")


def test_c3d_in_mmaction2_s_naming(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real net's file, narrow nowhere: 78 million zeros but for one number in each array."""
    from pipeline.backbones import c3d

    fmt = next(fmt for fmt in c3d.FORMATS if fmt.format == "mmaction2 backbone")
    net = c3d.open_net(None, {}, c3d.RECIPES["mmaction2"])
    state = {}
    for number, (key, name) in enumerate(fmt.keys.items()):
        state[key] = torch.zeros(net.state_dict()[name].shape, dtype=torch.float16)
        state[key].view(-1)[number] = number + 1
    torch.save({"state_dict": state, "meta": {"epoch": 45}}, tmp_path / "c3d.pth")
    inspect_file(str(tmp_path / "c3d.pth"))
    printed = capsys.readouterr().out
    for line in (
        "model       c3d (rgb), in the format of mmaction2 backbone",
        "classes     no classifier: features only",
        "parameters  77,995,776",
        "note        mmaction2 trains C3D with symmetric pool5 padding",
        "unused      1 key: meta",
        "20 arrays (20 float16)",
    ):
        assert line in printed
    out = tmp_path / "c3d.safetensors"
    convert(str(tmp_path / "c3d.pth"), str(out), option=["pool5=symmetric"])
    assert "c3d weights (mmaction2 backbone), no classifier, pool5: symmetric" in capsys.readouterr().out
    converted = load_file(out)
    for number, name in enumerate(fmt.keys.values()):
        assert converted[name].dtype == torch.float32
        assert np.flatnonzero(converted[name].numpy()).tolist() == [number]
        assert converted[name].view(-1)[number] == number + 1


def test_saved_nets_are_inspected_as_themselves(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(build("tiny", weights="random:1", options={"pool": "max"}), tmp_path / "own.safetensors")
    inspect_file(str(tmp_path / "own.safetensors"))
    assert "options     pool: max" in capsys.readouterr().out
