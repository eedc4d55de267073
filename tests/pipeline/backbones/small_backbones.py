"""Two backbones of two small convolutions, for RGB and for flow, that take clips of any length and size.

For tests of what surrounds a net: engine, probe, the features stage. tiny_models.py has those that are saved and read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec, Modality

CROP = (16, 16)
BOUND_PX = 20.0
RECIPES: dict[Modality, Preprocessing] = {
    "rgb": Preprocessing(recipe="small", modality="rgb", fps=5, resize=(24, 32), crop=CROP, range=(-1.0, 1.0)),
    "flow": Preprocessing(recipe="small", modality="flow", fps=5, resize=(24, 32), crop=CROP, bound_px=BOUND_PX),
}


class Small(Network):
    """conv1 8 × T × 16 × 16, conv2 12 × T/2 × 8 × 8, logits 5."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.conv1 = ConvBN(3 if preprocessing.modality == "rgb" else 2, 8, 3)
        self.conv2 = ConvBN(8, 12, 3, stride=2)
        self.logits = nn.Linear(12, 5)
        self.options = {}
        self.spec = BackboneSpec(
            name=f"small_{preprocessing.modality}",
            modality=preprocessing.modality,
            preprocessing=preprocessing,
            frames=8,
            min_frames=2,
            max_frames=None,
            size=None,
            layers={"conv1": 8, "conv2": 12, "logits": 5},
            map_layers=("conv1", "conv2"),
            default_layer="conv2",
            classifier="logits",
            num_classes=5,
        )

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "conv1", (x := self.conv1(x))
        yield "conv2", self.conv2(x)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "logits", self.logits(x)


def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> Small:
    with torch.device("meta"):
        return Small(preprocessing)


def init_random(net: Network, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for value in net.parameters():
        value.normal_(generator=generator)


def small(modality: Modality = "rgb", *, seed: int = 0) -> Small:
    """In eval mode, seeded, its batch norms far from identity."""
    torch.manual_seed(seed)
    net = Small(RECIPES[modality])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval().requires_grad_(False)


MODELS = {
    f"small_{modality}": Model(
        name=f"small_{modality}",
        modality=recipe.modality,
        num_classes=5,
        classifier="logits",
        formats=(),
        recipes={recipe.recipe: recipe},
        open_net=open_net,
        init_random=init_random,
    )
    for modality, recipe in RECIPES.items()
}
