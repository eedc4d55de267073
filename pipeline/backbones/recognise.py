"""Whose weights a checkpoint holds, told by its keys and shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from pipeline.backbones.checkpoint_file import Checkpoint, some
from pipeline.backbones.checkpoints import Matched, OtherShapesError, OtherWeightsError, looks, match
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import resolve
from pipeline.backbones.registry import BACKBONES
from schemas.errors import ReelmillError


@dataclass(frozen=True)
class Recognised:
    """A model that takes the weights."""

    model: Model
    matched: Matched
    net: Network  # on the meta device, of the variant that the file is of


def recognise(checkpoint: Checkpoint) -> list[Recognised]:
    """The registered models whose keys and shapes are the checkpoint's, one or more.

    Raises ReelmillError where there is none: what is wrong with the weights of a model that it knows, or what they look
    like instead.
    """
    found: list[Recognised] = []
    nearly: list[ReelmillError] = []
    for name, entry in BACKBONES.items():
        try:
            found.append(_as(import_module(entry.module).MODELS[name], checkpoint))
        except OtherWeightsError:
            continue
        except ReelmillError as error:
            nearly.append(error)
    if found:
        return found
    if nearly:  # RGB weights that hold NaN have other shapes than flow weights: say that they hold NaN
        raise min(nearly, key=lambda error: isinstance(error, OtherShapesError))
    raise OtherWeightsError(
        f"{checkpoint.path}: no model here takes these weights{looks(checkpoint.tensors)}; "
        f"the keys begin {some(checkpoint.tensors)}"
    )


def of_another_model(checkpoint: Checkpoint, asked: str) -> ReelmillError | None:
    """The error that says which model takes weights that `asked` does not; None where no other one does."""
    try:
        other = next((found for found in recognise(checkpoint) if found.model.name != asked), None)
    except ReelmillError:
        return None
    if other is None:
        return None
    name = other.model.name
    return ReelmillError(
        f"{checkpoint.path}: not {asked} weights, but {name} weights ({other.matched.keymap.format}): use model: {name}"
    )


def _as(model: Model, checkpoint: Checkpoint) -> Recognised:
    matched = match(checkpoint, model=model.name, formats=model.formats, classifier=model.classifier)
    classes = matched.num_classes(model.classifier)
    net = model.open_net(
        classes, matched.options, resolve(model.name, model.recipes, default=model.default_recipe(matched.options))
    )
    matched.fill(net)
    return Recognised(model, matched, net)
