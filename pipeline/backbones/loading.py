"""From a backbone's module and a weights text to a net, and from a net to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.backbones import checkpoints
from pipeline.backbones.checkpoints import Checkpoint, WeightsReport
from pipeline.backbones.identity import Option, file_sha256, random_seed, weights_sha256
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import UsageError

METADATA = "reelmill"  # the key of our own facts in a safetensors file


class Backbone(Protocol):
    """What `build` returns, beside being a torch.nn.Module in eval mode."""

    spec: BackboneSpec
    options: dict[str, Option]  # those that belong to the weights; `save` keeps them
    weights: WeightsReport

    def __call__(self, x: Tensor) -> Tensor:
        """Normalised clips (N, C, T, H, W) -> logits (N, K)."""

    def features(self, x: Tensor, *, layer: str) -> Tensor:
        """Normalised clips (N, C, T, H, W) -> (N, D); computes nothing beyond the layer."""

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """One clip of stored frames, (T, H, W, 3) uint8 RGB, to the size of the net's input, still uint8 RGB."""

    def normalise(self, clips: Tensor) -> Tensor:
        """Fitted clips (N, T, H, W, 3) uint8 -> (N, C, T, H, W) float32, on the same device."""


def load(name: str, module: ModuleType, *, weights: str, options: Mapping[str, Option]) -> Any:
    """See `pipeline.backbones.build`."""
    seed = random_seed(weights)
    net = _from_file(name, module, Path(weights), dict(options)) if seed is None else _random(module, seed, options)
    return net.eval().requires_grad_(False)


def save(net: Any, path: str | Path) -> None:
    """See `pipeline.backbones.save`."""
    state = {key: value.float().contiguous() for key, value in net.state_dict().items()}
    facts = {"model": net.spec.name, "options": net.options}
    # one entry: safetensors writes several in the order of a hash map, different in each process
    metadata = {METADATA: json.dumps(facts, sort_keys=True)}
    save_file(state, str(path), metadata=metadata)


def _random(module: Any, seed: int, options: Mapping[str, Option]) -> Any:
    net = module.open_net(module.NUM_CLASSES, options).to_empty(device="cpu")
    with torch.no_grad():
        module.init_random(net, seed)
    source = f"random:{seed}"
    net.weights = WeightsReport(source=source, format="random", sha256=weights_sha256(source))
    return net


def _from_file(name: str, module: Any, path: Path, options: dict[str, Option]) -> Any:
    checkpoint = checkpoints.read(path)
    matched = checkpoints.match(checkpoint, model=name, formats=module.FORMATS, classifier=module.CLASSIFIER)
    for key, saved in _saved_options(checkpoint).items():
        if options.setdefault(key, saved) != saved:
            raise UsageError(f"model_options.{key}: {path} was saved with {saved!r}, got {options[key]!r}; drop it")
    classes = matched.state.get(f"{module.CLASSIFIER}.weight")
    net = module.open_net(None if classes is None else len(classes), options)
    checkpoints.check_shapes(matched, net, path)
    net.load_state_dict({key: value.float() for key, value in matched.state.items()}, assign=True)
    net.weights = WeightsReport(
        source=str(path),
        format=matched.format,
        sha256=file_sha256(path),
        unused=matched.unused,
        notes=matched.notes,
    )
    return net


def _saved_options(checkpoint: Checkpoint) -> dict[str, Option]:
    """The options that `save` wrote; none in other projects' files."""
    return json.loads(checkpoint.metadata.get(METADATA, "{}")).get("options", {})
