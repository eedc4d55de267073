"""A backbone of two small convolutions, for tests of what surrounds a net."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec

RGB = Preprocessing(recipe="tiny", modality="rgb", fps=None, crop=(16, 16), range=(-1.0, 1.0))
FLOW = Preprocessing(recipe="tiny", modality="flow", fps=None, crop=(16, 16), bound_px=20.0)


class Tiny(Network):
    """conv1 8 × T × 16 × 16, conv2 12 × T/2 × 8 × 8, avgpool 12, logits 5."""

    def __init__(self, preprocessing: Preprocessing = RGB) -> None:
        super().__init__()
        channels = 3 if preprocessing.modality == "rgb" else 2
        self.conv1 = ConvBN(channels, 8, 3)
        self.conv2 = ConvBN(8, 12, 3, stride=2)
        self.logits = nn.Linear(12, 5)
        self.options = {}
        self.seen: list[tuple[int, ...]] = []  # shapes that came in
        self.spec = BackboneSpec(
            name="tiny",
            modality=preprocessing.modality,
            preprocessing=preprocessing,
            frames=4,
            min_frames=2,
            max_frames=None,
            size=None,
            layers={"conv1": 8, "conv2": 12, "avgpool": 12, "logits": 5},
            map_layers=("conv1", "conv2"),
            default_layer="avgpool",
            classifier="logits",
            num_classes=5,
        )

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        self.seen.append(tuple(x.shape))
        yield "conv1", (x := self.conv1(x))
        yield "conv2", self.conv2(x)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "avgpool", x
        yield "logits", self.logits(x)


def tiny(preprocessing: Preprocessing = RGB, *, seed: int = 0) -> Tiny:
    """In eval mode, seeded, its batch norms far from identity."""
    torch.manual_seed(seed)
    net = Tiny(preprocessing)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval().requires_grad_(False)
