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

and one line in BACKBONES. `loading.Backbone` says what its net offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.backbones.identity import Option, random_seed, weights_sha256
from schemas.errors import UsageError

__all__ = ["BACKBONES", "build", "names", "random_seed", "save", "weights_sha256"]

BACKBONES: dict[str, str] = {  # imported on first use: to name a model takes no torch
    "c3d": "pipeline.backbones.c3d",
}


def names() -> tuple[str, ...]:
    """The models that `build` knows."""
    return tuple(sorted(BACKBONES))


def build(name: str, *, weights: str, options: Mapping[str, Option] | None = None) -> Any:
    """A `loading.Backbone` in fp32 on the CPU.

    `weights` is a checkpoint file, or "random:SEED" to ask for random weights by name.
    Raises UsageError for an unknown model or option, ReelmillError for a file that can't be used.
    """
    if name not in BACKBONES:
        raise UsageError(f"model: nothing is named {name!r}; this version has {', '.join(names())}")
    from pipeline.backbones.loading import load

    return load(name, import_module(BACKBONES[name]), weights=weights, options=options or {})


def save(net: Any, path: str | Path) -> None:
    """Write a backbone's weights as fp32 safetensors, its name and options in the metadata; `build` reads it."""
    from pipeline.backbones.loading import save

    save(net, path)
