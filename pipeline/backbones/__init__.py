"""Backbones: networks that turn clips into logits and feature vectors.

    net = build("i3d_rgb", weights="rgb_imagenet.pt")      # any public checkpoint format, detected by its keys
    net.spec                                               # what it expects, its recipe, and its layers
    x = net.spec.preprocessing.normalise(clips)            # (N, T, H, W, 3) uint8 RGB, cropped -> (N, C, T, H, W)
    net(x)                                                 # logits (N, K)
    net.features(x, layer="avgpool")                       # (N, D)
    net.features(x, layer="Mixed_4f", dense=True)          # (N, C, T, H, W)

A backbone is one file with a `model.Model` for each of its names, and a line in `registry` for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.backbones import identity
from pipeline.backbones.identity import Option, random_seed
from pipeline.backbones.registry import entry, names
from schemas.preprocess import PreprocessSection

if TYPE_CHECKING:
    from pipeline.backbones.network import Network

__all__ = ["build", "modality", "names", "random_seed", "save", "weights_sha256"]


def modality(name: str) -> str:
    """ "rgb" or "flow": what a model takes."""
    return entry(name).modality


def weights_sha256(name: str, weights: str, *, preprocess: PreprocessSection | None = None) -> str:
    """The identity of what a model's numbers come from: its weights, and a mean volume. Raises UsageError."""
    mean = preprocess.mean if preprocess else None
    return identity.weights_sha256(
        weights, packaged=entry(name).packaged, files=[mean] if isinstance(mean, str) else []
    )


def build(
    name: str,
    *,
    weights: str,
    options: Mapping[str, Option] | None = None,
    preprocess: PreprocessSection | None = None,
) -> Network:
    """A network in fp32 on the CPU, in eval mode.

    `weights` is a checkpoint file, a name under which a Python package ships them ("imagenet", where the model has
    that), or "random:SEED" to ask for random weights by name. `options` are the model's own, and num_classes; of
    `preprocess` see `preprocess.resolve`. Raises UsageError for what is unknown, ReelmillError for a file that can't
    be used.
    """
    found = entry(name)
    from pipeline.backbones.loading import load

    model = import_module(found.module).MODELS[name]
    return load(model, weights=weights, packaged=found.packaged, options=options or {}, preprocess=preprocess)


def save(net: Any, path: str | Path) -> None:
    """Write a backbone's weights as fp32 safetensors, its name and options in the metadata; `build` reads it.

    Raises UsageError for a net that was made ready for inference, ReelmillError where the file can't be written.
    """
    from pipeline.backbones.loading import save

    save(net, path)
