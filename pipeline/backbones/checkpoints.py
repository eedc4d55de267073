"""Checkpoint files: read without running code, recognised by their keys, every key accounted for.

A backbone lists its formats as `KeyMap`s, pure data; this module knows no backbone.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from schemas.errors import ReelmillError

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")  # keys under which trainers nest the weights

# What the first bytes of a file say it is, where it can't hold weights.
MAGIC = (
    (b"<", "a web page: the download did not give the file"),
    (b"version https://git-lfs", "a git-lfs pointer: the file itself was not fetched"),
    (b"\x89HDF", "an HDF5 (Keras) file"),
    (b"\x1f\x8b", "gzip: decompress it first"),
    (b"\x93NUMPY", "a NumPy array"),
)

# What keys say about weights of something else: (what, a text that one of its keys contains).
LOOKS = (
    ("I3D weights", "mixed_5c."),
    ("R(2+1)D or R3D weights of torchvision", "stem.0.weight"),
    ("PyTorchVideo weights", "blocks.1.res_blocks."),
    ("SlowFast weights", "s1.pathway0_stem"),
    ("ResNet weights", "layer4.0.conv1."),
    ("vision transformer weights", ".attn.qkv."),
    ("VGG weights", "features.0.weight"),
    ("LSTM weights", "weight_ih_l0"),
)


@dataclass(frozen=True)
class KeyMap:
    """One checkpoint format: for each key of the file, the parameter of the net that it fills."""

    format: str
    keys: Mapping[str, str]
    note: str = ""  # what someone who uses such a file should know; goes to the card


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by key, and the names of what else it holds."""

    path: Path
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Matched:
    """Tensors by the net's own parameter names."""

    format: str
    state: dict[str, Tensor]
    origin: dict[str, str]  # parameter -> the file's key
    unused: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class WeightsReport:
    """Where a net's weights come from; `unused` names every key of the file that fills no parameter."""

    source: str
    format: str
    sha256: str
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(path: Path) -> Checkpoint:
    """The tensors of a torch or safetensors file. No code of the file is run. Raises ReelmillError."""
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
    if not zipfile.is_zipfile(path):
        raise ReelmillError(f"{path}: this torch file is truncated (its zip directory is missing); get it again")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
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
    except (EOFError, RuntimeError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
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
    if not tensors:
        raise ReelmillError(f"{path}: holds no weights, only {_some(others) or 'an empty dict'}")
    return Checkpoint(path, tensors, tuple(others))


def match(checkpoint: Checkpoint, *, model: str, formats: Sequence[KeyMap], classifier: str) -> Matched:
    """Recognise the format by its keys and rename them. The classifier alone may be missing.

    Raises ReelmillError where keys are missing, where the file has more in a layer than the net, and for NaN or Inf.
    """
    found = checkpoint.tensors
    best = max(formats, key=lambda fmt: len(fmt.keys.keys() & found.keys()) / len(fmt.keys))
    missing = [key for key in best.keys if key not in found]
    if len(missing) > len(best.keys) // 2:
        raise ReelmillError(f"{checkpoint.path}: not {model} weights{_looks(found)}; its keys begin {_some(found)}")
    head = [key for key, name in best.keys.items() if name.startswith(f"{classifier}.")]
    lacking = missing if set(missing) != set(head) else []  # a whole classifier may be missing, half of one may not
    lacking = [key for key in lacking if key not in head] or lacking
    if lacking:
        raise ReelmillError(f"{checkpoint.path}: {model} weights ({best.format}), but without {_some(lacking)}")
    unused = [key for key in found if key not in best.keys]
    inside = [key for key in unused if key.startswith(tuple(_owners(best, classifier)))]
    if inside:
        raise ReelmillError(
            f"{checkpoint.path}: {model} weights ({best.format}) of another architecture: "
            f"its layers also hold {_some(inside)}"
        )
    origin = {name: key for key, name in best.keys.items() if key in found}
    state = {name: found[key] for name, key in origin.items()}
    _check_values(state, origin, checkpoint.path)
    notes = (best.note,) if best.note else ()
    return Matched(best.format, state, origin, (*sorted(unused), *checkpoint.others), notes)


def check_shapes(matched: Matched, net: nn.Module, path: Path) -> None:
    """Raises ReelmillError for the first tensor whose shape is not the net's."""
    for name, parameter in net.state_dict().items():
        if matched.state[name].shape != parameter.shape:
            raise ReelmillError(
                f"{path}: {matched.origin[name]} has shape {tuple(matched.state[name].shape)}, "
                f"but {name} takes {tuple(parameter.shape)}"
            )


def _check_values(state: Mapping[str, Tensor], origin: Mapping[str, str], path: Path) -> None:
    for name, value in state.items():
        if not value.is_floating_point():
            raise ReelmillError(f"{path}: {origin[name]} holds {value.dtype}, not floats; quantised weights won't do")
        if not torch.isfinite(value).all():
            raise ReelmillError(f"{path}: {origin[name]} holds NaN or Inf; these weights are broken")


def _owners(fmt: KeyMap, classifier: str) -> set[str]:
    """The prefixes of the file's keys under which everything belongs to the net: `conv1a.` of `conv1a.conv.weight`."""
    owners = set()
    for key, name in fmt.keys.items():
        if not name.startswith(f"{classifier}."):
            parts = key.split(".")
            owners.add(".".join(parts[: max(1, len(parts) - 2)]) + ".")
    return owners


def _looks(keys: Mapping[str, Tensor]) -> str:
    lowered = [key.lower() for key in keys]
    for what, text in LOOKS:
        if any(text in key for key in lowered):
            return f"; it looks like {what}"
    return ""


def _some(keys: Sequence[str] | Mapping[str, Any], show: int = 4) -> str:
    names = list(keys)
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return ", ".join(names[:show]) + more
