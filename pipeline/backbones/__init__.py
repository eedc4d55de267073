"""Backbones: networks that turn clips into logits and feature vectors.

    net = build("c3d", weights="c3d.pickle")      # any public checkpoint format, detected by its keys
    net.spec                                      # what it expects, and its layers
    x = net.normalise(torch.from_numpy(np.stack([net.fit(frames)])))   # (T, H, W, 3) uint8 RGB -> (1, C, T, H, W)
    net(x)                                        # logits (N, K)
    net.features(x, layer="fc6")                  # (N, D)

A backbone is one file with

    NUM_CLASSES: int                              of the published model; random weights have as many
    CLASSIFIER: str                               the module that a checkpoint may lack, or size differently
    FORMATS: tuple[KeyMap, ...]                   the checkpoints it can read, as data
    open_net(num_classes, options) -> net         on the meta device: no memory, no values
    init_random(net, seed)                        seeded values

and one line in BACKBONES. `Backbone` says what its net offers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.weights import file_sha256, random_seed, weights_sha256
from schemas.errors import UsageError

if TYPE_CHECKING:  # torch is needed to build a net, not to name one
    import numpy as np
    from torch import Tensor

    from pipeline.backbones.checkpoints import WeightsReport
    from pipeline.backbones.spec import BackboneSpec

BACKBONES: dict[str, str] = {  # imported on first use
    "c3d": "pipeline.backbones.c3d",
}

Option = str | int | float | bool


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


def names() -> tuple[str, ...]:
    """The models that `build` knows."""
    return tuple(sorted(BACKBONES))


def build(name: str, *, weights: str, options: Mapping[str, Option] | None = None) -> Any:
    """A `Backbone` in fp32 on the CPU.

    `weights` is a checkpoint file, or "random:SEED" to ask for random weights by name.
    Raises UsageError for an unknown model or option, ReelmillError for a file that can't be used.
    """
    if name not in BACKBONES:
        raise UsageError(f"model: nothing is named {name!r}; this version has {', '.join(names())}")
    module = import_module(BACKBONES[name])
    seed = random_seed(weights)
    if seed is not None:
        return _build_random(module, weights, seed, dict(options or {}))
    return _build_from_file(name, module, Path(weights), dict(options or {}))


def save(net: Any, path: str | Path) -> None:
    """Write a backbone's weights as fp32 safetensors, its name and options in the metadata; `build` reads it."""
    from safetensors.torch import save_file

    state = {key: value.float().contiguous() for key, value in net.state_dict().items()}
    metadata = {"reelmill.model": net.spec.name, "reelmill.options": json.dumps(net.options, sort_keys=True)}
    save_file(state, str(path), metadata=metadata)


def _build_random(module: Any, weights: str, seed: int, options: dict[str, Option]) -> Any:
    from pipeline.backbones.checkpoints import WeightsReport

    net = module.open_net(module.NUM_CLASSES, options).to_empty(device="cpu")
    module.init_random(net, seed)
    net.weights = WeightsReport(source=weights, format="random", sha256=weights_sha256(weights))
    return net.eval().requires_grad_(False)


def _build_from_file(name: str, module: Any, path: Path, options: dict[str, Option]) -> Any:
    from pipeline.backbones import checkpoints

    checkpoint = checkpoints.read(path)
    matched = checkpoints.match(checkpoint, model=name, formats=module.FORMATS, classifier=module.CLASSIFIER)
    for key, saved in json.loads(checkpoint.metadata.get("reelmill.options", "{}")).items():
        if options.setdefault(key, saved) != saved:
            raise UsageError(f"model_options.{key}: {path} was saved with {saved!r}, got {options[key]!r}; drop it")
    classes = matched.state.get(f"{module.CLASSIFIER}.weight")
    net = module.open_net(None if classes is None else len(classes), options)
    checkpoints.check_shapes(matched, net, path)
    net.load_state_dict({key: value.float() for key, value in matched.state.items()}, assign=True)
    net.weights = checkpoints.WeightsReport(
        source=str(path),
        format=matched.format,
        sha256=file_sha256(path),
        unused=matched.unused,
        notes=matched.notes,
    )
    return net.eval().requires_grad_(False)
