"""The config for a newcomer with a folder of videos and a file of weights: clips as the model's recipe wants them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.backbones import random_seed
from pipeline.backbones.registry import entry, names
from pipeline.backbones.spec import BackboneSpec
from pipeline.say import say
from pipeline.sources.listing import is_video_name
from schemas.config import Config
from schemas.errors import UsageError

FPS = 5.0  # of clips for a model whose recipe has no rate of its own
FRAMES = 16  # of clips for a model of single frames
C3D_STRIDE_S = 3.2  # 16 frames at 5 fps


def folder_config(folder: Path, *, dataset: str | None, weights: str | None, model: str | None) -> Config:
    """Clips and features of a folder's videos, and a head where it holds two classes. Raises UsageError."""
    if dataset is None or weights is None:
        raise UsageError(
            f"{folder} is a folder: say where to write with --dataset, and which weights to use with --weights "
            "(a file such as c3d.pickle or rgb_imagenet.pt, or random:0 to ask for random ones)"
        )
    spec = _spec(weights, model)
    document: dict[str, Any] = {
        "dataset": dataset,
        "source": {"kind": "directory", "videos": str(folder)},
        **_products(spec, weights),
    }
    if _num_classes(folder) >= 2:
        document["heads"] = {"actions": {"kind": "lstm", "features": [spec.name]}}
    else:
        say(
            f"{folder} has no two subfolders with videos, so there are no classes to tell apart: "
            "making clips and features only"
        )
    return Config.model_validate(document)


def _spec(weights: str, model: str | None) -> BackboneSpec:
    """Of the variant that a file is of, told by its keys; of other weights, of the model's published form.

    Raises UsageError where several models take the weights and none is named.
    """
    if random_seed(weights) is not None:
        return _published(model or "c3d")
    packaged = [name for name in names() if weights in entry(name).packaged]
    if packaged:
        return _published(model or _only(packaged, weights))
    from pipeline.backbones.checkpoint_file import read
    from pipeline.backbones.recognise import recognise

    found = {one.model.name: one.net.spec for one in recognise(read(Path(weights)))}
    name = model or _only(list(found), weights)
    return found[name] if name in found else _published(name)


def _only(takers: list[str], weights: str) -> str:
    if len(takers) > 1:
        raise UsageError(f"{weights}: {' and '.join(takers)} take these weights; say which with --model")
    return takers[0]


def _products(spec: BackboneSpec, weights: str) -> dict[str, Any]:
    """The sections that make a model's features."""
    name = spec.name
    features: dict[str, Any] = {"model": name, "weights": weights}
    if name == "c3d":
        clips = {"frames": 16, "fps": FPS, "stride_s": C3D_STRIDE_S, "resize": [128, 171]}
        return {"clips": {"rgb16": clips}, "features": {name: {"from": "clips/rgb16", **features, "layer": "fc6"}}}
    recipe = spec.preprocessing
    frames = spec.frames if spec.frames > 1 else FRAMES
    size = {"resize": list(recipe.resize)} if recipe.resize else {"short_side": recipe.short_side}
    clips = {"frames": frames, "fps": recipe.fps or FPS, **size}
    windows = f"rgb{frames}"
    if spec.modality == "rgb":
        return {"clips": {windows: clips}, "features": {name: {"from": f"clips/{windows}", **features}}}
    return {
        "clips": {windows: clips},
        "flow": {"tvl1": {"clips": windows}},
        "features": {name: {"from": "flow/tvl1", **features}},
    }


def _published(name: str) -> BackboneSpec:
    model = import_module(entry(name).module).MODELS[name]
    return model.open_net(model.num_classes, {}, model.recipes[model.default_recipe({})]).spec


def _num_classes(folder: Path) -> int:
    """Subfolders that hold a video, at any depth."""
    children = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return sum(any(is_video_name(path.name) for path in child.rglob("*")) for child in children)
