"""Checkpoints in their projects' public naming, and files that are no such checkpoint: one sentence each.

The nets here are C3D's modules by name, but narrow: the full size is 320 MB.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.backbones import c3d, checkpoints
from schemas.errors import ReelmillError

State = dict[str, Tensor]
CONVS = ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")


def tensors(*modules: str) -> State:
    """A distinct weight and bias for each module."""
    state: State = {}
    for module in modules:
        generator = torch.Generator().manual_seed(len(state))
        state[f"{module}.weight"] = torch.randn(3, 2, generator=generator)
        state[f"{module}.bias"] = torch.randn(3, generator=generator)
    return state


def davidea() -> State:
    return tensors("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8")


def mmaction_backbone() -> State:
    return tensors(*(f"conv{name}.conv" for name in CONVS), "fc6", "fc7")


def mmaction_recognizer() -> State:
    body = {f"backbone.{key}": value for key, value in mmaction_backbone().items()}
    head = tensors("cls_head.fc_cls")
    return {**body, **head}


def ours() -> State:
    return tensors(*(f"conv{name}" for name in CONVS), "fc6", "fc7", "fc8")


def match(path: Path) -> checkpoints.Matched:
    return checkpoints.match(checkpoints.read(path), model="c3d", formats=c3d.FORMATS, classifier=c3d.CLASSIFIER)


def saved(path: Path, content: Any, **kwargs: bool) -> Path:
    torch.save(content, path, **kwargs)
    return path


# ---------------------------------------------------------------- formats

BY_FORMAT: dict[str, Callable[[], State]] = {
    "DavideA c3d.pickle": davidea,
    "mmaction2 backbone": mmaction_backbone,
    "mmaction2 recognizer": mmaction_recognizer,
    "reelmill": ours,
}


@pytest.mark.parametrize("name", BY_FORMAT)
@pytest.mark.parametrize("wrapped", [False, True])
def test_each_format_is_told_by_its_keys(tmp_path: Path, name: str, wrapped: bool) -> None:
    state = BY_FORMAT[name]()
    content = {"meta": {"epoch": 45}, "state_dict": state} if wrapped else state
    found = match(saved(tmp_path / "a.bin", content))
    assert found.format == name
    assert set(found.origin.values()) == set(state), "every key of the file is used"
    assert found.unused == (("meta",) if wrapped else ())
    expected = set(ours()) - ({"fc8.weight", "fc8.bias"} if name == "mmaction2 backbone" else set())
    assert set(found.state) == expected
    # in all these formats the modules come in the network's order
    for (_, theirs), (_, loaded) in zip(state.items(), found.state.items(), strict=True):
        assert torch.equal(theirs, loaded)


def test_the_names_of_the_formats_as_published() -> None:
    maps = {fmt.format: fmt.keys for fmt in c3d.FORMATS}
    assert maps["DavideA c3d.pickle"]["conv2.weight"] == "conv2a.weight"
    assert maps["mmaction2 backbone"]["conv3b.conv.bias"] == "conv3b.bias"
    assert maps["mmaction2 recognizer"]["backbone.fc7.weight"] == "fc7.weight"
    assert maps["mmaction2 recognizer"]["cls_head.fc_cls.bias"] == "fc8.bias"


def test_files_of_old_torch_data_parallel_and_safetensors(tmp_path: Path) -> None:
    old = saved(tmp_path / "c3d.pickle", collections.OrderedDict(davidea()), _use_new_zipfile_serialization=False)
    assert match(old).format == "DavideA c3d.pickle"
    parallel = {f"module.{key}": value for key, value in davidea().items()}
    assert match(saved(tmp_path / "parallel.pth", parallel)).format == "DavideA c3d.pickle"
    save_file(ours(), str(tmp_path / "own.safetensors"))
    assert match(tmp_path / "own.safetensors").format == "reelmill"


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    state = {**mmaction_recognizer(), "data_preprocessor.mean": torch.zeros(3), "cls_head.extra": torch.zeros(1)}
    found = match(saved(tmp_path / "a.pth", {"state_dict": state, "optimizer": {}, "meta": {}}))
    assert found.unused == ("cls_head.extra", "data_preprocessor.mean", "optimizer", "meta")
    assert "pool5: symmetric" in found.notes[0]


# ---------------------------------------------------------------- one sentence each


def test_missing_keys(tmp_path: Path) -> None:
    state = davidea()
    del state["conv4b.bias"]
    with pytest.raises(ReelmillError, match=r"c3d weights \(DavideA c3d.pickle\), but without conv4b\.bias$"):
        match(saved(tmp_path / "a.pth", state))
    state = davidea()
    del state["fc8.bias"]
    with pytest.raises(ReelmillError, match=r"but without fc8\.bias$"):
        match(saved(tmp_path / "b.pth", state))


def test_a_layer_with_more_in_it_is_another_architecture(tmp_path: Path) -> None:
    state = {**mmaction_backbone(), "conv3b.bn.weight": torch.ones(3)}
    with pytest.raises(ReelmillError, match=r"another architecture: its layers also hold conv3b\.bn\.weight"):
        match(saved(tmp_path / "a.pth", state))


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("Mixed_5c.b3b.conv3d.weight", "I3D weights"),
        ("mixed_5c.branch_0.conv3d.weight", "I3D weights"),
        ("layer4.0.conv1.weight", "ResNet weights"),
        ("features.0.weight", "VGG weights"),
        ("blocks.0.attn.qkv.weight", "vision transformer weights"),
    ],
)
def test_other_models_are_named(tmp_path: Path, key: str, what: str) -> None:
    with pytest.raises(ReelmillError, match=rf"not c3d weights; it looks like {what}; its keys begin {key}"):
        match(saved(tmp_path / "a.pth", {key: torch.zeros(2), "fc.weight": torch.zeros(2)}))


def test_unknown_model_shows_its_keys(tmp_path: Path) -> None:
    state = {f"w{index}": torch.zeros(1) for index in range(9)}
    with pytest.raises(ReelmillError, match=r"not c3d weights; its keys begin w0, w1, w2, w3 and 5 more$"):
        match(saved(tmp_path / "a.pth", state))


def test_non_finite_and_quantised_values(tmp_path: Path) -> None:
    state = davidea()
    state["conv5a.weight"][1, 1] = float("nan")
    with pytest.raises(ReelmillError, match=r"conv5a\.weight holds NaN or Inf"):
        match(saved(tmp_path / "a.pth", state))
    state["conv5a.weight"] = torch.zeros(3, 2, dtype=torch.int8)
    with pytest.raises(ReelmillError, match=r"conv5a\.weight holds torch\.int8, not floats"):
        match(saved(tmp_path / "b.pth", state))


def test_shapes_are_compared_with_the_net(tmp_path: Path) -> None:
    found = match(saved(tmp_path / "a.pth", davidea()))
    with pytest.raises(ReelmillError, match=r"conv1\.weight has shape \(3, 2\), but conv1a\.weight takes \(64, 3, 3"):
        checkpoints.check_shapes(found, c3d.open_net(3, {}), tmp_path / "a.pth")


class Stranger(nn.Module):
    """A module of someone's own: to unpickle it takes their code."""


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    def says(name: str, data: bytes, text: str) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ReelmillError, match=text):
            checkpoints.read(path)

    says("empty", b"", "is empty")
    says("page.pth", b"<!DOCTYPE html><html>", "a web page: the download did not give the file")
    says("lfs.pth", b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer")
    says("keras.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5")
    says("a.caffemodel", b"\x0a\x03C3D" + bytes(50), "neither a torch file nor a safetensors file")
    says("numbers.pickle", pickle.dumps([1.0, 2.0]), "a pickle, but not one that torch.save wrote|holds a list")
    with pytest.raises(ReelmillError, match="No such file"):
        checkpoints.read(tmp_path / "nowhere.pth")
    with pytest.raises(ReelmillError, match="can't read the weights"):
        checkpoints.read(tmp_path)


def test_contents_that_are_no_weights(tmp_path: Path) -> None:
    def says(content: Any, text: str) -> None:
        with pytest.raises(ReelmillError, match=text):
            checkpoints.read(saved(tmp_path / "a.pth", content))

    says([torch.zeros(1)], "holds a list, not weights by name")
    says({"state": {}, "param_groups": []}, "an optimizer's state, not weights")
    says({"epoch": 3, "loss": 0.5}, "holds no weights, only epoch, loss")
    says(Stranger(), r"would run code of its own \(.*Stranger\), which is refused; save its state_dict")


def test_truncated_files(tmp_path: Path) -> None:
    def says(whole: Path) -> None:
        part = tmp_path / f"part-{whole.name}"
        part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        with pytest.raises(ReelmillError, match="truncated"):
            checkpoints.read(part)

    state = {"fc6.weight": torch.randn(64, 64)}
    says(saved(tmp_path / "new.pth", state))
    says(saved(tmp_path / "old.pth", state, _use_new_zipfile_serialization=False))
    save_file(state, str(tmp_path / "own.safetensors"))
    says(tmp_path / "own.safetensors")


def test_other_zip_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.zeros(3))
    with pytest.raises(ReelmillError, match=r"a zip file, but not one that torch\.save wrote"):
        checkpoints.read(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ReelmillError, match="a TorchScript program"):
        checkpoints.read(tmp_path / "script.pt")
