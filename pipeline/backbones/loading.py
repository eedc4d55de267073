"""From a model and a weights text to a net, and from a net to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from pipeline.backbones.checkpoint_file import read
from pipeline.backbones.checkpoints import COUNTER, METADATA, Matched, WeightsReport, match
from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.identity import Option, file_sha256, random_seed, weights_path, weights_sha256
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import MeanVolume, resolve
from pipeline.backbones.recognise import of_another_model
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import PreprocessSection

NUM_CLASSES = "num_classes"  # the option that every model has


def load(
    model: Model,
    *,
    weights: str,
    packaged: Mapping[str, tuple[str, str]],
    options: Mapping[str, Option],
    preprocess: PreprocessSection | None,
) -> Network:
    """See `pipeline.backbones.build`."""
    options = dict(options)
    classes = _classes_asked(options.pop(NUM_CLASSES, None))
    unknown = sorted(options.keys() - set(model.option_names))
    if unknown:
        have = " and ".join(sorted([*model.option_names, NUM_CLASSES]))
        raise UsageError(f"model_options.{unknown[0]}: {model.name} has no such option; it has {have}")
    seed = random_seed(weights)
    if seed is None:
        path = weights_path(weights, packaged)
        net = _from_file(model, path, options, classes=classes, preprocess=preprocess)
        if "://" in weights:  # on each machine the copy may lie elsewhere
            net.weights = replace(net.weights, source=weights)
    else:
        net = _random(model, seed, options, classes=classes, preprocess=preprocess)
    _check_mean(net)
    return net.eval().requires_grad_(False)


def save(net: Network, path: str | Path) -> None:
    """See `pipeline.backbones.save`."""
    if _is_changed(net):
        raise UsageError(f"{path}: this net was made ready for inference, and its numbers changed; save a new `build`")
    try:
        # not save_file, whose files nobody but their owner can read
        Path(path).write_bytes(serialized(net.state_dict(), name=net.spec.name, options=net.options))
    except OSError as error:
        raise ReelmillError(f"{path}: can't write the weights ({error.strerror})") from None


def serialized(state: Mapping[str, Tensor], *, name: str, options: Mapping[str, Option]) -> bytes:
    """A backbone's own file: fp32 safetensors, its name and options in the metadata."""
    kept = {key: value.float().contiguous() for key, value in state.items() if not key.endswith(COUNTER)}
    # one entry: safetensors writes several in the order of a hash map, different in each process
    metadata = {METADATA: json.dumps({"model": name, "options": dict(options)}, sort_keys=True)}
    return serialize(kept, metadata=metadata)


def _is_changed(net: Network) -> bool:
    """Whether `precision.prepare` folded a batch norm or took another precision."""
    is_folded = any(isinstance(module, ConvBN) and isinstance(module.bn, nn.Identity) for module in net.modules())
    return is_folded or any(value.dtype != torch.float32 for value in net.parameters())


def _random(
    model: Model, seed: int, options: dict[str, Option], *, classes: int | None, preprocess: PreprocessSection | None
) -> Network:
    net = _open(model, classes or model.num_classes, options, preprocess).to_empty(device="cpu")
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            buffer.fill_(1 if name.endswith("running_var") else 0)
        model.init_random(net, seed)
    source = f"random:{seed}"
    net.weights = WeightsReport(source=source, format="random", sha256=weights_sha256(source))
    return net


def _from_file(
    model: Model,
    path: Path,
    options: dict[str, Option],
    *,
    classes: int | None,
    preprocess: PreprocessSection | None,
) -> Network:
    checkpoint = read(path)
    try:
        matched = match(checkpoint, model=model.name, formats=model.formats, classifier=model.classifier)
        net = _open_as(model, matched, options, preprocess)
        state = matched.fill(net)
    except UsageError:
        raise
    except ReelmillError as error:
        raise of_another_model(checkpoint, model.name) or error from None
    _check_classes(path, classes, matched.num_classes(model.classifier))
    net.load_state_dict(state, assign=True)
    net.weights = WeightsReport(
        source=str(path),
        format=matched.keymap.format,
        sha256=file_sha256(path),
        unused=matched.unused,
        ignored=matched.ignored,
        notes=(matched.keymap.note,) if matched.keymap.note else (),
    )
    return net


def _open_as(
    model: Model, matched: Matched, options: dict[str, Option], preprocess: PreprocessSection | None
) -> Network:
    """A net on the meta device, of the variant that the file is of. Raises UsageError where an option denies it."""
    for key, of_file in matched.options.items():
        if options.setdefault(key, of_file) != of_file:
            raise UsageError(f"model_options.{key}: {matched.path} is of {of_file!r}, got {options[key]!r}; drop it")
    return _open(model, matched.num_classes(model.classifier), options, preprocess)


def _open(
    model: Model, classes: int | None, options: Mapping[str, Option], preprocess: PreprocessSection | None
) -> Network:
    recipe = resolve(model.name, model.recipes, preprocess, default=model.default_recipe(options))
    return model.open_net(classes, options, recipe)


def _classes_asked(value: Option | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"model_options.{NUM_CLASSES}: a whole number of classes, got {value!r}")
    return value


def _check_classes(path: Path, asked: int | None, found: int | None) -> None:
    if asked is not None and asked != found:
        has = "no classifier" if found is None else f"{found} classes"
        raise UsageError(f"model_options.{NUM_CLASSES}: {path} has {has}, not {asked}; use the weights of that many")


def _check_mean(net: Network) -> None:
    mean, frames = net.spec.preprocessing.mean, net.spec.frames
    if isinstance(mean, MeanVolume) and len(mean.values) != frames:
        raise UsageError(
            f"preprocess.mean: {mean.path} holds {len(mean.values)} frames, {net.spec.name} takes {frames}"
        )
