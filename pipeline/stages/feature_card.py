"""What the card of a features product says, and what is refused before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any

import numpy as np
import torch

from pipeline.backbones import build, precision, probe, random_seed, views
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import MeanVolume
from pipeline.backbones.registry import entry
from pipeline.backbones.spec import BackboneSpec
from pipeline.graph import Product
from pipeline.stages.clip_inputs import Upstream, read_upstream
from pipeline.stages.recipe_differences import deviations, sampling_of
from pipeline.store import Store
from pipeline.threads import use_all_cores
from schemas.config import Clips, Features
from schemas.errors import ReelmillError, UsageError


def describe(product: Product, store: Store) -> dict[str, Any]:
    """What the card says beyond the settings. Loads the model; raises UsageError for what can't work."""
    settings = Features.model_validate(product.settings)
    threads = use_all_cores()
    net = build(
        settings.model, weights=settings.weights, options=settings.model_options, preprocess=settings.preprocess
    )
    upstream = read_upstream(store, settings.source)
    sampling = sampling_of(store, upstream)
    layer = settings.layer or net.spec.default_layer
    dim = net.spec.require_layer(layer, dense=settings.dense)
    size = _require_input(net.spec, upstream, sampling, settings)
    model = import_module(entry(settings.model).module).MODELS[settings.model]
    frames = settings.num_frames(upstream.frames)
    maps = _describe_maps(net, model, settings, layer, frames, size) if settings.dense else None
    on = precision.device()
    chosen, difference = probe.measured(net, asked=settings.precision, layer=layer, frames=frames, on=on)
    return {
        "model": settings.model,
        "layer": layer,
        "dim": maps["channels"] if maps else dim,
        "weights": _describe_weights(net),
        "preprocessing": _plain(net.spec.preprocessing.facts()),
        "views": _describe_views(settings, size),
        "window": _describe_window(settings, upstream),
        **({"maps": maps} if maps else {}),
        "deviations": deviations(net.spec, model, upstream, sampling, frames=frames),
        "precision": {
            "asked": settings.precision,
            "used": chosen.used,
            "why": chosen.why,
            "difference_to_fp32": difference,
        },
        "device": torch.cuda.get_device_name(on) if on.type == "cuda" else "cpu",
        "threads": threads,
        "batch": "rows of a unit in shard order, across videos",
    }


# ---------------------------------------------------------------- checks


def _require_input(
    spec: BackboneSpec, upstream: Upstream, sampling: Clips, settings: Features
) -> tuple[int, int] | None:
    """(height, width) of the frames that views are cut from, where the settings tell; raises UsageError."""
    if spec.modality != ("rgb" if upstream.num_channels == 3 else "flow"):
        raise UsageError(f"from: {spec.name} takes {spec.modality}, and {upstream.path} holds something else")
    frames = settings.num_frames(upstream.frames)
    size = _fitted_size(spec, upstream, sampling)
    crop = spec.preprocessing.crop
    try:
        spec.require_input(frames, crop or size)
    except UsageError as error:
        if settings.window:
            raise UsageError(f"window: {error}") from None
        is_long = spec.max_frames is not None and frames > spec.max_frames
        advice = ", or take a window of each clip here" if is_long else ""
        raise UsageError(f"the clips of {upstream.path}: {error}; change them there{advice}") from None
    mean = spec.preprocessing.mean
    if isinstance(mean, MeanVolume) and len(mean.values) != frames:
        raise UsageError(f"preprocess.mean: {mean.path} holds {len(mean.values)} frames, and {frames} enter the net")
    if settings.crops > 1 and (crop is None or crop == size):
        raise UsageError(
            f"crops: {settings.crops} crops of frames that are no larger than the crop are all the same; store larger "
            "frames, set preprocess.crop, or leave crops out"
        )
    return size


def _fitted_size(spec: BackboneSpec, upstream: Upstream, sampling: Clips) -> tuple[int, int] | None:
    stored = sampling.crop or sampling.resize
    crop = spec.preprocessing.crop
    if stored is not None:
        # what each clip will meet, tried on a black frame
        frame = np.zeros((1, *stored, upstream.num_channels), np.uint8)
        try:
            height, width = spec.preprocessing.fit(frame).shape[1:3]
        except ReelmillError as error:
            raise UsageError(f"{upstream.path}: {error}") from None
        return height, width
    keeps_size = spec.preprocessing.resize is None and spec.preprocessing.short_side is None
    if keeps_size and crop and sampling.short_side and sampling.short_side < min(crop):
        raise UsageError(
            f"{upstream.path}: its frames have short_side {sampling.short_side}, and a crop of {crop[0]}×{crop[1]} "
            "(height×width) does not fit inside; store larger clips, or set preprocess.short_side, resize or crop"
        )
    return spec.preprocessing.resize


# ---------------------------------------------------------------- parts of the card


def _describe_weights(net: Network) -> dict[str, Any]:
    facts: dict[str, Any] = _plain(asdict(net.weights))
    seed = random_seed(net.weights.source)
    if seed is not None:
        facts["words"] = f"random weights, seed {seed}: asked for by name"
    return facts


def _describe_views(settings: Features, size: tuple[int, int] | None) -> dict[str, Any]:
    count = views.num_views(settings.crops, flip=settings.flip)
    facts: dict[str, Any] = {
        "views": count,
        "crops": settings.crops,
        "flip": settings.flip or settings.crops == 10,
        "rows": "one row a view",
    }
    if size is not None:
        facts["frame_px"] = list(size)
    return facts


def _describe_window(settings: Features, upstream: Upstream) -> dict[str, Any]:
    if settings.window is None:
        return {"frames": upstream.frames, "words": f"each clip of {upstream.path} whole"}
    frames, stride = settings.window.frames, settings.window.stride
    left = (upstream.frames - frames) % stride
    return {
        "frames": frames,
        "stride_frames": stride,
        "fps": upstream.fps,
        "windows": (upstream.frames - frames) // stride + 1,
        "words": f"window k of a clip starts at start_s + k · {stride} / {upstream.fps:g}; one that begins where the "
        f"tail's padding has begun is left out, and so are the last {left} frames of a clip",
    }


def _describe_maps(
    net: Network, model: Model, settings: Features, layer: str, frames: int, size: tuple[int, int] | None
) -> dict[str, Any]:
    """What the maps are like; their shape where the size of the input is known."""
    crop = net.spec.preprocessing.crop or size
    height, width = crop or (probe.SIDE_PX, probe.SIDE_PX)
    # on the meta device: shapes without arithmetic
    empty = model.open_net(net.spec.num_classes, net.options, net.spec.preprocessing).eval()
    channels = 3 if net.spec.modality == "rgb" else 2
    x = torch.empty((1, channels, frames, height, width), device="meta")
    with torch.inference_mode():
        shape = list(empty.features(x, layer=layer, dense=True).shape[1:])
    if settings.time_pool == "mean":
        shape[1] = 1
    return {
        "members": "KEY.npy (C, T, H, W), KEY.cls (the label id, where there is exactly one), KEY.json (the index row)",
        "channels": shape[0],
        "shape": shape if crop else "follows from the size of the frames",
        "time_pool": settings.time_pool,
        "dtype": settings.dtype,
    }


def _plain(value: Any) -> Any:
    """Tuples and mappings as the card's JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
