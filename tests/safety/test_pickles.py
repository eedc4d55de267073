"""A pickle that would run code, wherever one could be put in: refused in a sentence, and its code not run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from payload import Payload, pickled

from pipeline.annotations.activitynet import read_entries
from pipeline.annotations.ava import read_proposals
from pipeline.backbones import build
from pipeline.backbones.preprocess import read_mean
from pipeline.config import parse_config
from pipeline.flow.encode import decode_stored
from pipeline.sources.issues import Issues
from pipeline.store import Store
from pipeline.training.artifacts import read_checkpoint
from pipeline.video.encode import decode_frames
from schemas.config import Flow
from schemas.errors import ReelmillError, UsageError


def object_array(mark: Path) -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.array([Payload(mark)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def torch_zip(mark: Path) -> bytes:
    """As torch.save writes it, with the payload in place of the tensors."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(mark))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def torch_saved(mark: Path, *, new: bool) -> bytes:
    buffer = BytesIO()
    content = {"weight": torch.zeros(2), "extra": Payload(mark)}
    torch.save(content, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


FILES: dict[str, Callable[[Path], bytes]] = {
    "pickle": pickled,
    "pickle of another protocol": lambda mark: pickled(mark, protocol=4),
    "text pickle": lambda mark: pickled(mark, protocol=0),
    "torch zip": torch_zip,
    "torch.save": lambda mark: torch_saved(mark, new=True),
    "torch.save of old": lambda mark: torch_saved(mark, new=False),
    "object array": object_array,
}
each_file = pytest.mark.parametrize("file", FILES.values(), ids=FILES)


def test_the_payload_is_one(tmp_path: Path) -> None:
    """Read by what runs code, it leaves its mark: else no test here could fail."""
    for number, file in enumerate((FILES["torch.save"], FILES["torch zip"], FILES["object array"], FILES["pickle"])):
        mark = tmp_path / str(number)
        data = BytesIO(file(mark))
        if file is FILES["object array"]:
            np.load(data, allow_pickle=True)
        elif file is FILES["pickle"]:
            pickle.load(data)
        else:
            torch.load(data, weights_only=False)
        assert mark.exists()


@each_file
@pytest.mark.parametrize("name", ["w.pt", "w.pickle", "w.safetensors", "w.index", "w.data-00000-of-00001"])
def test_weights(file: Callable[[Path], bytes], name: str, tmp_path: Path, mark: Path) -> None:
    (tmp_path / name).write_bytes(file(mark))
    with pytest.raises(ReelmillError, match=r"w\."):
        build("c3d", weights=str(tmp_path / name))


def test_weights_from_a_bucket(s3_uri: str, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, file in FILES.items():
        Store(s3_uri.format("pickles")).put(f"{name}.pt", file(mark))
        with pytest.raises(ReelmillError, match=rf"{name}\.pt"):
            build("c3d", weights=s3_uri.format(f"pickles/{name}.pt"))


@each_file
def test_a_mean_volume(file: Callable[[Path], bytes], tmp_path: Path, mark: Path) -> None:
    (tmp_path / "mean.npy").write_bytes(file(mark))
    with pytest.raises(UsageError, match=r"no \.npy file of numbers|has shape None"):
        read_mean(str(tmp_path / "mean.npy"))


@each_file
def test_frames_and_flow_of_a_shard(file: Callable[[Path], bytes], mark: Path) -> None:
    data = file(mark)
    frames: tuple[tuple[Literal["jpeg", "mp4", "npy"], str], ...]
    frames = (("npy", "npy"), ("jpeg", "000.jpg"), ("mp4", "mp4"))
    for encoding, name in frames:
        with pytest.raises(ReelmillError, match="damaged after it was written"):
            decode_frames({name: data}, encoding)
    for spec, names in ((Flow(clips="rgb", encoding="npy"), ["npy"]), (Flow(clips="rgb"), ["x.000.jpg", "y.000.jpg"])):
        with pytest.raises(ReelmillError, match="damaged after it was written"):
            decode_stored(dict.fromkeys(names, data), spec)


@each_file
def test_a_heads_checkpoint(file: Callable[[Path], bytes], tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "heads/a/checkpoints"
    folder.mkdir(parents=True)
    (folder / "best.json").write_text("{}")
    (folder / "best.safetensors").write_bytes(file(mark))
    with pytest.raises(ReelmillError, match=r"best\.safetensors"):
        read_checkpoint(Store(str(tmp_path)), "heads/a/checkpoints")


@each_file
def test_annotations(file: Callable[[Path], bytes], tmp_path: Path, mark: Path) -> None:
    for name in ("a.json", "a.pkl"):
        (tmp_path / name).write_bytes(file(mark))
    with pytest.raises(UsageError, match=r"a\.json"):
        list(read_entries(str(tmp_path / "a.json"), Issues()))
    with pytest.raises(UsageError, match=r"a\.pkl"):
        read_proposals(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"]
)
def test_a_config(tag: str, mark: Path) -> None:
    with pytest.raises(UsageError, match="not valid YAML"):
        parse_config(f"dataset: {tag} [{mark}]\n", "config.yaml")
