"""What the keys of a checkpoint mean: recognised by the keys alone, every key accounted for.

A backbone lists its formats as `KeyMap`s, pure data; this module knows no backbone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.backbones.checkpoint_file import Checkpoint, some
from pipeline.backbones.identity import Option
from schemas.errors import ReelmillError

Layout = Literal["torch", "tensorflow", "inflate"]

# What keys say about weights of something that no backbone here reads: (what, a text that one of its keys contains).
LOOKS = (
    ("R(2+1)D or R3D weights of torchvision", "stem.0.weight"),
    ("PyTorchVideo weights", "blocks.1.res_blocks."),
    ("SlowFast weights", "s1.pathway0_stem"),
    ("ResNet weights", "layer4.0.conv1."),
    ("vision transformer weights", ".attn.qkv."),
    ("VGG weights", "features.0.weight"),
    ("LSTM weights", "weight_ih_l0"),
)
COUNTER = "num_batches_tracked"  # of batch norm; it is no weight, and is neither read nor written
METADATA = "reelmill"  # the key of our own facts in a safetensors file: the model's name and its options


class OtherWeightsError(ReelmillError):
    """The keys are of something else than the model."""


class OtherShapesError(ReelmillError):
    """The keys are the model's, the arrays are of other sizes."""


@dataclass(frozen=True)
class KeyMap:
    """One checkpoint format: for each key of the file, the parameter of the net that it fills."""

    format: str
    keys: Mapping[str, str]
    note: str = ""  # what someone who uses such a file should know; goes to the card
    layout: Layout = "torch"  # how its arrays lie; see LAYOUTS
    constants: Mapping[str, float] = field(default_factory=dict)  # parameters that the format has not, and their value
    ignored: tuple[str, ...] = ()  # regular expressions of keys that are known and fill nothing
    options: Mapping[str, Option] = field(default_factory=dict)  # the variant of the net that such files are of


@dataclass(frozen=True)
class Matched:
    """A file's tensors by the net's own parameter names, as they lie in the file."""

    keymap: KeyMap
    path: Path
    state: dict[str, Tensor]
    origin: dict[str, str]  # parameter -> the file's key
    unused: tuple[str, ...]
    ignored: Mapping[str, int]  # regular expression -> how many keys
    options: Mapping[str, Option]  # of the net that the file is of: its format's, or those that it was saved with

    def num_classes(self, classifier: str) -> int | None:
        """K of the file's classifier, or None where it has none."""
        bias = self.state.get(f"{classifier}.bias")
        return None if bias is None else bias.numel()

    def fill(self, net: nn.Module) -> dict[str, Tensor]:
        """float32 values for every parameter of a net.

        Raises OtherShapesError for a shape that is not the net's, ReelmillError for NaN, Inf and what holds no floats.
        """
        convert = LAYOUTS[self.keymap.layout]
        filled = {}
        _check_types(self.state, self.origin, self.path)
        for name, parameter in net.state_dict().items():
            if name.endswith(COUNTER):
                filled[name] = torch.zeros((), dtype=torch.int64)
            elif name in self.state:
                value = convert(self.state[name], parameter.shape)
                if value.shape != parameter.shape:
                    raise OtherShapesError(
                        f"{self.path}: {self.origin[name]} has shape {tuple(self.state[name].shape)}, "
                        f"but {name} takes {tuple(parameter.shape)}"
                    )
                # a copy, always: where an array lies in its file decides the last bits of sums, and files may change
                filled[name] = value.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            else:
                filled[name] = torch.full(parameter.shape, self.keymap.constants[name])
        assert self.state.keys() <= filled.keys(), f"{self.keymap.format} names parameters that the net has not"
        _check_finite(filled, self.origin, self.path)
        return filled


@dataclass(frozen=True)
class WeightsReport:
    """Where a net's weights come from; `unused` names every key of the file that fills no parameter."""

    source: str
    format: str
    sha256: str
    unused: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # known and harmless keys: pattern -> how many
    notes: tuple[str, ...] = ()


def match(checkpoint: Checkpoint, *, model: str, formats: Sequence[KeyMap], classifier: str) -> Matched:
    """Recognise the format by its keys and rename them. The classifier alone may be missing.

    Raises OtherWeightsError for something else, ReelmillError where keys are missing and where the file has more in a
    layer than the net.
    """
    found = checkpoint.tensors
    facts = _own_facts(checkpoint)
    if facts.get("model", model) != model:
        raise OtherWeightsError(f"{checkpoint.path}: not {model} weights, but saved as {facts['model']}")
    best = max(formats, key=lambda fmt: _fit(fmt, found))
    missing = [key for key in best.keys if key not in found]
    if len(missing) > len(best.keys) // 2:
        raise OtherWeightsError(f"{checkpoint.path}: not {model} weights{looks(found)}; its keys begin {some(found)}")
    head = [key for key, name in best.keys.items() if name.startswith(f"{classifier}.")]
    lacking = missing if set(missing) != set(head) else []  # a whole classifier may be missing, half of one may not
    lacking = [key for key in lacking if key not in head] or lacking
    if lacking:
        raise ReelmillError(f"{checkpoint.path}: weights in the format of {best.format}, but without {some(lacking)}")
    others = [key for key in found if key not in best.keys]
    patterns = {key: _pattern(key, best.ignored) for key in others}
    unused = [key for key, pattern in patterns.items() if pattern is None]
    inside = [key for key in unused if key.startswith(tuple(_owners(best, classifier)))]
    if inside:
        raise ReelmillError(
            f"{checkpoint.path}: weights in the format of {best.format}, but of another architecture: "
            f"its layers also hold {some(inside)}"
        )
    origin = {name: key for key, name in best.keys.items() if key in found}
    state = {name: found[key] for name, key in origin.items()}
    ignored = Counter(pattern for pattern in patterns.values() if pattern is not None)
    return Matched(
        best,
        checkpoint.path,
        state,
        origin,
        unused=(*sorted(unused), *checkpoint.others),
        ignored=dict(ignored),
        options={**best.options, **facts.get("options", {})},
    )


def _fit(fmt: KeyMap, found: Mapping[str, Tensor]) -> tuple[int, int]:
    """How much of a file a format explains, then how little it misses: deeper nets have all keys of others."""
    num_used = len(fmt.keys.keys() & found.keys())
    return num_used, num_used - len(fmt.keys)


def _own_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model and the options that `save` wrote; none in other projects' files. Raises ReelmillError."""
    try:
        facts = json.loads(checkpoint.metadata.get(METADATA, "{}"))
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("options", {}), dict):
        raise ReelmillError(f"{checkpoint.path}: what reelmill wrote of it ({METADATA}) is damaged; convert it again")
    return facts


def _check_types(state: Mapping[str, Tensor], origin: Mapping[str, str], path: Path) -> None:
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta:
            raise ReelmillError(f"{path}: {origin[name]} is a sparse tensor or one without numbers; save plain ones")
        if not value.is_floating_point():
            raise ReelmillError(f"{path}: {origin[name]} holds {value.dtype}, not floats; quantised weights won't do")


def _check_finite(filled: Mapping[str, Tensor], origin: Mapping[str, str], path: Path) -> None:
    for name, value in filled.items():
        if not torch.isfinite(value).all():
            raise ReelmillError(f"{path}: {origin[name]} holds NaN or Inf; these weights are broken")


def _pattern(key: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in (*patterns, COUNTER) if re.search(pattern, key)), None)


def _owners(fmt: KeyMap, classifier: str) -> set[str]:
    """The prefixes of the file's keys under which everything belongs to the net: `conv1a.` of `conv1a.conv.weight`."""
    separator = "/" if fmt.layout == "tensorflow" else "."
    owners = set()
    for key, name in fmt.keys.items():
        if not name.startswith(f"{classifier}."):
            parts = key.split(separator)
            owners.add(separator.join(parts[: max(1, len(parts) - 2)]) + separator)
    return owners


def looks(keys: Mapping[str, Tensor]) -> str:
    """The end of a sentence: what keys that no model here takes look like; empty where that is not known."""
    lowered = [key.lower() for key in keys]
    for what, text in LOOKS:
        if any(text in key for key in lowered):
            return f"; it looks like {what}"
    return ""


# ---------------------------------------------------------------- how arrays lie in a file


def _from_tensorflow(value: Tensor, shape: torch.Size) -> Tensor:
    """[kT, kH, kW, in, out] -> [out, in, kT, kH, kW]; the [1, 1, 1, 1, C] of batch norm -> [C]."""
    if value.ndim == 5 and len(shape) == 1:
        return value.flatten()
    return value.permute(4, 3, 0, 1, 2) if value.ndim == 5 else value


def _inflated(value: Tensor, shape: torch.Size) -> Tensor:
    """[out, in, kH, kW] -> [out, in, kT, kH, kW]: the kernel in every frame, divided by their number."""
    if value.ndim == 4 and len(shape) == 5:
        return value.unsqueeze(2).repeat(1, 1, shape[2], 1, 1) / shape[2]
    return value


LAYOUTS: dict[Layout, Callable[[Tensor, torch.Size], Tensor]] = {
    "torch": lambda value, shape: value,
    "tensorflow": _from_tensorflow,
    "inflate": _inflated,
}
