"""Checkpoint files: tensors by key, read without running code. What the keys mean is told in `checkpoints`."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.backbones.tensor_bundle import is_bundle, other_tensorflow, read_bundle
from schemas.errors import ReelmillError

Container = Literal["torch", "safetensors", "TensorFlow checkpoint"]
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")  # keys under which trainers nest the weights

SMALL_BYTES = 1 << 30
MOST_GROWTH = 4

# What the first bytes of a file say it is, where it can't hold weights.
MAGIC = (
    (b"<", "a web page: the download did not give the file"),
    (b"version https://git-lfs", "a git-lfs pointer: the file itself was not fetched"),
    (b"\x89HDF", "an HDF5 (Keras) file"),
    (b"\x1f\x8b", "gzip: decompress it first"),
    (b"\x93NUMPY", "a NumPy array"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by key, and the names of what else it holds."""

    path: Path
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read(path: Path) -> Checkpoint:
    """The tensors of a torch file, a safetensors file or a TensorFlow checkpoint. No code of the file is run.

    Raises ReelmillError.
    """
    checkpoint = _read(path)
    if not checkpoint.tensors:
        raise ReelmillError(f"{path}: holds no weights, only {some(checkpoint.others) or 'an empty list of them'}")
    return checkpoint


def container(path: Path) -> Container:
    """What kind of file a path that can be read is."""
    if is_bundle(path):
        return "TensorFlow checkpoint"
    with path.open("rb") as file:
        return "safetensors" if file.read(9)[8:] == b"{" else "torch"


def _read(path: Path) -> Checkpoint:
    if is_bundle(path):
        return Checkpoint(path, {key: torch.from_numpy(value) for key, value in read_bundle(path).items()})
    if (what := other_tensorflow(path)) is not None:
        raise ReelmillError(f"{path}: not a weights file, but {what}")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ReelmillError(f"{path}: can't read the weights ({error.strerror}); check the path") from None
    if not head:
        raise ReelmillError(f"{path}: the weights file is empty; get it again")
    if head[8:9] == b"{":
        return _read_safetensors(path)
    for magic, what in MAGIC:
        if head.startswith(magic):
            raise ReelmillError(f"{path}: not a weights file, but {what}")
    if head.startswith(b"PK"):
        _check_zip(path)
    elif not head.startswith(b"\x80"):
        raise ReelmillError(f"{path}: neither a torch file nor a safetensors file; give the model's checkpoint")
    return _unwrap(path, _load_torch(path))


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            return Checkpoint(path, tensors, metadata=file.metadata() or {})
    except SafetensorError as error:
        raise ReelmillError(f"{path}: this safetensors file is truncated or damaged ({error}); get it again") from None


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise ReelmillError(
            f"{path}: this torch file is truncated or damaged (its zip directory can't be read); get it again"
        ) from None
    # torch.save packs nothing: what says to grow is made to fill the memory
    if unpacked > max(SMALL_BYTES, MOST_GROWTH * path.stat().st_size):
        raise ReelmillError(
            f"{path}: its {path.stat().st_size:,} bytes say to unpack to {unpacked:,}, which is refused"
        )
    if any(name.endswith("constants.pkl") for name in names):
        raise ReelmillError(f"{path}: a TorchScript program, not weights; save its state_dict and use that")
    if not any(name.endswith("data.pkl") for name in names):
        raise ReelmillError(f"{path}: a zip file, but not one that torch.save wrote; give the model's checkpoint")


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of odd pickles; what is wrong is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise ReelmillError(f"{path}: a pickle, but not one that torch.save wrote; save a state_dict") from None
        raise ReelmillError(
            f"{path}: reading it would run code of its own ({found[1]}), which is refused; "
            "save its state_dict alone, torch.save(model.state_dict(), …), and use that"
        ) from None
    except Exception as error:  # damaged bytes make torch fail in any way: struct.error, AssertionError, and more
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ReelmillError(f"{path}: this torch file is truncated or damaged ({reason}); get it again") from None


def _unwrap(path: Path, content: Any) -> Checkpoint:
    """The state dict inside what was loaded, with DataParallel's `module.` taken off."""
    others: list[str] = []
    while isinstance(content, Mapping):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None:
            break
        others += [str(key) for key in content if key != wrapper]
        content = content[wrapper]
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ReelmillError(f"{path}: holds a {kind}, not weights by name; save a state_dict and use that")
    if {"state", "param_groups"} <= set(content):
        raise ReelmillError(f"{path}: an optimizer's state, not weights; give the model's checkpoint")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    others += [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return Checkpoint(path, tensors, tuple(others))


def some(keys: Sequence[str] | Mapping[str, Any], show: int = 4) -> str:
    """The first few names, and how many more there are."""
    names = list(keys)
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return ", ".join(names[:show]) + more
