"""Backbones small enough to load in no time, with every part that a real one has, and a registry line for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.registry import BACKBONES, Entry
from pipeline.backbones.spec import BackboneSpec, Modality
from schemas.errors import UsageError

MODULE = "tiny_models_for_a_test"
CHANNELS = {"rgb": 3, "flow": 2}
PARAMETERS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
OURS = [*(f"body.{name}" for name in PARAMETERS), "head.weight", "head.bias"]
ELSEWHERE = [*(f"net.stem.{name}" for name in PARAMETERS), "net.fc.weight", "net.fc.bias"]
TENSORFLOW = {
    "tiny/stem/conv/w": "body.conv.weight",
    "tiny/stem/bn/beta": "body.bn.bias",
    "tiny/stem/bn/moving_mean": "body.bn.running_mean",
    "tiny/stem/bn/moving_variance": "body.bn.running_var",
}
FORMATS = (
    KeyMap("reelmill", dict(zip(OURS, OURS, strict=True))),
    KeyMap("elsewhere", dict(zip(ELSEWHERE, OURS, strict=True)), "set pool: max", ignored=(r"^ema\.", r"\.momentum$")),
    KeyMap("on TensorFlow", TENSORFLOW, layout="tensorflow", constants={"body.bn.weight": 1.0}),
)


class Tiny(Network):
    """One convolution with batch norm, a mean or a maximum, one linear layer."""

    def __init__(
        self, name: str, modality: Modality, num_classes: int | None, pool: str, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.body = ConvBN(CHANNELS[modality], 4, 3)
        self.head = nn.Linear(4, num_classes) if num_classes is not None else None
        self.options = {"pool": pool}
        self.calls: list[str] = []  # what was computed
        layers = {"body": 4, "pool": 4} | ({"head": num_classes} if num_classes is not None else {})
        self.spec = BackboneSpec(
            name=name,
            modality=modality,
            preprocessing=preprocessing,
            frames=8,
            min_frames=2,
            max_frames=None,
            size=None,
            layers=layers,
            map_layers=("body",),
            default_layer="pool",
            classifier="head",
            num_classes=num_classes,
        )

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        self.calls.append("body")
        yield "body", self.body(x)  # N×4×T×H×W

    def bridge(self, blob: Tensor) -> Tensor:
        return blob.amax((2, 3, 4)) if self.options["pool"] == "max" else super().bridge(blob)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "pool", x  # N×4
        if self.head is not None:
            self.calls.append("head")
            yield "head", self.head(x)  # N×K


def tiny(name: str = "tiny", modality: Modality = "rgb", formats: tuple[KeyMap, ...] = FORMATS) -> Model:
    """A model's declaration."""

    def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> Tiny:
        pool = str(options.get("pool", "mean"))
        if pool not in ("mean", "max"):
            raise UsageError(f"model_options.pool: write mean or max, got {pool!r}")
        with torch.device("meta"):
            return Tiny(name, modality, num_classes, pool, preprocessing)

    def init_random(net: Network, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for value in net.parameters():
            value.uniform_(-1, 1, generator=generator)

    return Model(
        name=name,
        modality=modality,
        num_classes=5,
        classifier="head",
        formats=formats,
        recipes={"own": Preprocessing(recipe="own", modality=modality, fps=None, bound_px=20.0)},
        open_net=open_net,
        init_random=init_random,
        option_names=("pool",),
    )


def register(monkeypatch: pytest.MonkeyPatch, *models: Model) -> None:
    """Make these the registered models, and no others, until the test ends."""
    module = ModuleType(MODULE)
    module.MODELS = {model.name: model for model in models}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    for name in list(BACKBONES):
        monkeypatch.delitem(BACKBONES, name)
    for model in models:
        monkeypatch.setitem(BACKBONES, model.name, Entry(MODULE, model.modality))


def elsewhere(num_classes: int | None = 5, modality: Modality = "rgb", seed: int = 0) -> dict[str, Tensor]:
    """A state dict in the naming of "elsewhere"."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, CHANNELS[modality], 3, 3, 3), (4,), (4,), (4,), (4,), (num_classes or 0, 4), (num_classes or 0,)]
    state = {key: torch.rand(shape, generator=generator) + 0.1 for key, shape in zip(ELSEWHERE, shapes, strict=True)}
    return {key: value for key, value in state.items() if num_classes is not None or not key.startswith("net.fc.")}


def on_tensorflow() -> dict[str, np.ndarray]:
    """The variables of "on TensorFlow", as Sonnet shapes them; without a classifier."""
    random = np.random.default_rng(0)
    shapes = [(3, 3, 3, 3, 4), (1, 1, 1, 1, 4), (1, 1, 1, 1, 4), (1, 1, 1, 1, 4)]
    return {
        key: random.uniform(0.1, 1, shape).astype(np.float32) for key, shape in zip(TENSORFLOW, shapes, strict=True)
    }
