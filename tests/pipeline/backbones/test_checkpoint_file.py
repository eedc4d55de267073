"""Files as the world stores weights in them, and files that hold none: one sentence each, and no code is run."""

from __future__ import annotations

import collections
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_writer import write_bundle
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.backbones.checkpoint_file import container, read, some
from schemas.errors import ReelmillError

STATE = {"fc6.weight": torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), "fc6.bias": torch.arange(8.0)}


def saved(path: Path, content: Any, **kwargs: bool) -> Path:
    torch.save(content, path, **kwargs)
    return path


def is_state(found: dict[str, Tensor]) -> bool:
    return list(found) == list(STATE) and all(torch.equal(value, found[key]) for key, value in STATE.items())


# ---------------------------------------------------------------- what is read


def test_torch_files_new_and_old(tmp_path: Path) -> None:
    for path in (
        saved(tmp_path / "new.pth", STATE),
        saved(tmp_path / "c3d.pickle", collections.OrderedDict(STATE), _use_new_zipfile_serialization=False),
        saved(tmp_path / "parallel.pth", {f"module.{key}": value for key, value in STATE.items()}),
    ):
        found = read(path)
        assert is_state(found.tensors)
        assert found.others == ()
        assert container(path) == "torch"


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model_state", "model"])
def test_what_trainers_put_around_weights_is_named(tmp_path: Path, wrapper: str) -> None:
    found = read(saved(tmp_path / "a.pth", {"epoch": 45, wrapper: {**STATE, "version": 2}, "optimizer": {"state": {}}}))
    assert is_state(found.tensors)
    assert found.others == ("epoch", "optimizer", "version")


def test_safetensors_with_their_metadata(tmp_path: Path) -> None:
    save_file(STATE, str(tmp_path / "a.safetensors"), metadata={"reelmill": "{}"})
    found = read(tmp_path / "a.safetensors")
    assert is_state(dict(sorted(found.tensors.items(), reverse=True)))
    assert found.metadata == {"reelmill": "{}"}
    assert container(tmp_path / "a.safetensors") == "safetensors"


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001"])
def test_a_tensorflow_checkpoint_by_its_prefix_or_any_of_its_files(tmp_path: Path, name: str) -> None:
    write_bundle(tmp_path / "model.ckpt", {"a/w": np.arange(6, dtype=np.float32).reshape(2, 3)})
    found = read(tmp_path / name)
    assert torch.equal(found.tensors["a/w"], torch.arange(6.0).view(2, 3))
    assert container(tmp_path / name) == "TensorFlow checkpoint"


# ---------------------------------------------------------------- one sentence each


class Stranger(nn.Module):
    """A module of someone's own: to unpickle it takes their code."""


class Trap:
    """Makes a folder when it is unpickled by whoever runs what a pickle says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_no_code_of_a_file_is_run(tmp_path: Path, is_zip: bool) -> None:
    content = {"state_dict": STATE, "meta": Trap(tmp_path / "sprung")}
    path = saved(tmp_path / "trap.pth", content, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ReelmillError, match=r"would run code of its own \((posix|nt)\.mkdir\), which is refused"):
        read(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("empty", b"", "is empty; get it again"),
        ("page.pth", b"<!DOCTYPE html><html>", "a web page: the download did not give the file"),
        ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        ("keras.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
        ("mean.npy", b"\x93NUMPY\x01\x00" + bytes(20), "a NumPy array"),
        ("a.pth.gz", b"\x1f\x8b\x08" + bytes(20), "gzip: decompress it first"),
        ("a.caffemodel", b"\x0a\x03C3D" + bytes(50), "neither a torch file nor a safetensors file"),
        ("numbers.pickle", pickle.dumps([1.0, 2.0]), "a pickle, but not one that torch.save wrote|holds a list"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt-9"\n', "names the newest checkpoint; give .*ckpt-9.index"),
        ("graph.pb", b"\x0a\x04", "not a weights file, but a TensorFlow graph; give the checkpoint"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ReelmillError, match=sentence):
        read(tmp_path / name)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ReelmillError, match="No such file or directory"):
        read(tmp_path / "nowhere.pth")
    with pytest.raises(ReelmillError, match="Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([torch.zeros(1)], "holds a list, not weights by name"),
        ({"state": {}, "param_groups": []}, "an optimizer's state, not weights"),
        ({"epoch": 3, "loss": 0.5}, "holds no weights, only epoch, loss"),
        ({}, "holds no weights, only an empty list of them"),
        (Stranger(), r"would run code of its own \(.*Stranger\), which is refused; save its state_dict"),
    ],
)
def test_contents_that_are_no_weights(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(ReelmillError, match=sentence):
        read(saved(tmp_path / "a.pth", content))


def test_containers_without_a_single_array(tmp_path: Path) -> None:
    save_file({}, str(tmp_path / "a.safetensors"))
    with pytest.raises(ReelmillError, match="holds no weights"):
        read(tmp_path / "a.safetensors")


def test_other_zip_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.zeros(3))
    with pytest.raises(ReelmillError, match=r"a zip file, but not one that torch\.save wrote"):
        read(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ReelmillError, match="a TorchScript program"):
        read(tmp_path / "script.pt")


def three_files(folder: Path) -> list[Path]:
    save_file(STATE, str(folder / "own.safetensors"))
    old = saved(folder / "old.pth", STATE, _use_new_zipfile_serialization=False)
    return [saved(folder / "new.pth", STATE), old, folder / "own.safetensors"]


def test_truncated_files(tmp_path: Path) -> None:
    for whole in three_files(tmp_path):
        part = tmp_path / f"part-{whole.name}"
        part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
        with pytest.raises(ReelmillError, match="truncated"):
            read(part)


def is_read(path: Path) -> bool:
    try:
        read(path)
    except ReelmillError as error:
        return "\n" in str(error)
    return True


def test_damage_is_a_sentence_wherever_it_is(tmp_path: Path) -> None:
    """Bytes of the part that says what is where, changed at random: what is still readable is read."""
    seeded = random.Random(0)
    refused = 0
    for whole in three_files(tmp_path):
        good = whole.read_bytes()
        for number in range(150):
            bad = bytearray(good)
            for _ in range(1 + number % 3):
                bad[seeded.randrange(min(len(good), 400))] = seeded.randrange(256)
            (tmp_path / "bad").write_bytes(bad[: seeded.randrange(len(bad))] if number % 5 == 0 else bad)
            refused += not is_read(tmp_path / "bad")
    assert 150 < refused < 450


def test_some_names_a_few() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some({"a": 1, "b": 2, "c": 3}, 2) == "a, b and 1 more"
    assert some([]) == ""
