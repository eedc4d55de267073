"""I3D (Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?"): Inception-V1, inflated, for RGB and for flow.

Layer names are the endpoints of DeepMind's kinetics-i3d. Shapes are those of the published 64 frames of 224×224 px.
N clips, C channels (3 of RGB, 2 of flow), T frames, H×W pixels, D features, K classes; maps are N×C×T×H×W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.i3d_keys import formats
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.same_padding import Triple, max_pool_same, same_padding
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import UsageError

Modality = Literal["rgb", "flow"]

FRAMES = 64
NUM_CLASSES = 400  # Kinetics-400
CLASSIFIER = "logits"
FEATURES = "avgpool"
CHANNELS = {"rgb": 3, "flow": 2}

EPS = {"deepmind": 1e-3, "video_features": 1e-5}  # of batch norm; port -> eps
MIN_FRAMES = {"deepmind": 9, "video_features": 10}  # the fewest that leave the last map two frames

MAPS = {  # layer -> C
    "Conv3d_1a_7x7": 64,
    "MaxPool3d_2a_3x3": 64,
    "Conv3d_2b_1x1": 64,
    "Conv3d_2c_3x3": 192,
    "MaxPool3d_3a_3x3": 192,
    "Mixed_3b": 256,
    "Mixed_3c": 480,
    "MaxPool3d_4a_3x3": 480,
    "Mixed_4b": 512,
    "Mixed_4c": 512,
    "Mixed_4d": 512,
    "Mixed_4e": 528,
    "Mixed_4f": 832,
    "MaxPool3d_5a_2x2": 832,
    "Mixed_5b": 832,
    "Mixed_5c": 1024,
}

RECIPES: dict[Modality, dict[str, Preprocessing]] = {
    "rgb": {
        "deepmind": Preprocessing(
            recipe="deepmind", modality="rgb", fps=25, short_side=256, crop=(224, 224), range=(-1.0, 1.0)
        ),
        "video_features": Preprocessing(
            recipe="video_features",
            modality="rgb",
            fps=None,  # the video's own, unless its extraction_fps is set
            short_side=256,
            long_side="floor",
            filter="antialias",
            crop=(224, 224),
            range=(-1.0, 1.0),
        ),
    },
    "flow": {
        "deepmind": Preprocessing(
            recipe="deepmind", modality="flow", fps=25, short_side=256, crop=(224, 224), bound_px=20.0
        ),
        "video_features": Preprocessing(
            recipe="video_features",
            modality="flow",  # its own is RAFT's
            fps=None,
            short_side=256,
            long_side="floor",
            filter="antialias",
            crop=(224, 224),
            bound_px=20.0,
            is_rounded=True,
        ),
    },
}


class Mixed(nn.Module):
    """Four branches side by side: 1×1×1; 1×1×1 then 3×3×3, twice; a 3×3×3 max-pool then 1×1×1."""

    def __init__(self, num_in: int, widths: tuple[int, int, int, int, int, int], *, eps: float) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = ConvBN(num_in, b0, 1, eps=eps)
        self.b1a = ConvBN(num_in, b1a, 1, eps=eps)
        self.b1b = ConvBN(b1a, b1b, 3, eps=eps)
        self.b2a = ConvBN(num_in, b2a, 1, eps=eps)
        self.b2b = ConvBN(b2a, b2b, 3, eps=eps)
        self.b3b = ConvBN(num_in, b3b, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """N×(b0 + b1b + b2b + b3b)×T×H×W of N×C×T×H×W."""
        b1 = self.b1b(self.b1a(x))
        b2 = self.b2b(self.b2a(x))
        b3 = self.b3b(max_pool_same(x, 3, 1))
        return torch.cat([self.b0(x), b1, b2, b3], dim=1)


class I3D(Network):
    """Inception-V1 I3D of one stream; for inference, so without dropout.

    `port` is whose numbers it gives. "deepmind": TensorFlow's SAME padding at any size, and eps 1e-3; the ports of
    piergiaj and hassony2 do the same. "video_features": eps 1e-5, and at any size the padding of even ones, so clips
    with an odd number of frames come out otherwise.
    """

    def __init__(self, *, modality: Modality, num_classes: int | None, port: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        eps = EPS[port]
        self._pads_as_even = port == "video_features"
        self.Conv3d_1a_7x7 = ConvBN(
            CHANNELS[modality], 64, 7, stride=2, padding=(0, 0, 0) if self._pads_as_even else "same", eps=eps
        )
        self.Conv3d_2b_1x1 = ConvBN(64, 64, 1, eps=eps)
        self.Conv3d_2c_3x3 = ConvBN(64, 192, 3, eps=eps)
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32), eps=eps)
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64), eps=eps)
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64), eps=eps)
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64), eps=eps)
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64), eps=eps)
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64), eps=eps)
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128), eps=eps)
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128), eps=eps)
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128), eps=eps)
        self.logits = nn.Conv3d(1024, num_classes, kernel_size=1) if num_classes is not None else None
        self.options = {"port": port}
        self.spec = _spec(modality, num_classes, MIN_FRAMES[port], preprocessing)

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every endpoint. N×C×64×224×224 comes in."""
        if self._pads_as_even:
            x = F.pad(x, _even_padding((7, 7, 7), (2, 2, 2)))
        yield "Conv3d_1a_7x7", (x := self.Conv3d_1a_7x7(x))  # N×64×32×112×112
        yield "MaxPool3d_2a_3x3", (x := self._pool(x, (1, 3, 3), (1, 2, 2)))  # N×64×32×56×56
        yield "Conv3d_2b_1x1", (x := self.Conv3d_2b_1x1(x))  # N×64×32×56×56
        yield "Conv3d_2c_3x3", (x := self.Conv3d_2c_3x3(x))  # N×192×32×56×56
        yield "MaxPool3d_3a_3x3", (x := self._pool(x, (1, 3, 3), (1, 2, 2)))  # N×192×32×28×28
        yield "Mixed_3b", (x := self.Mixed_3b(x))  # N×256×32×28×28
        yield "Mixed_3c", (x := self.Mixed_3c(x))  # N×480×32×28×28
        yield "MaxPool3d_4a_3x3", (x := self._pool(x, (3, 3, 3), (2, 2, 2)))  # N×480×16×14×14
        yield "Mixed_4b", (x := self.Mixed_4b(x))  # N×512×16×14×14
        yield "Mixed_4c", (x := self.Mixed_4c(x))  # N×512×16×14×14
        yield "Mixed_4d", (x := self.Mixed_4d(x))  # N×512×16×14×14
        yield "Mixed_4e", (x := self.Mixed_4e(x))  # N×528×16×14×14
        yield "Mixed_4f", (x := self.Mixed_4f(x))  # N×832×16×14×14
        yield "MaxPool3d_5a_2x2", (x := self._pool(x, (2, 2, 2), (2, 2, 2)))  # N×832×8×7×7
        yield "Mixed_5b", (x := self.Mixed_5b(x))  # N×832×8×7×7
        yield "Mixed_5c", self.Mixed_5c(x)  # N×1024×8×7×7

    def bridge(self, blob: Tensor) -> Tensor:
        """N×1024 of Mixed_5c: average pool [2, 7, 7] with stride 1, then the mean over what is left; in float32.

        Its ends count less than its middle, which is not the plain mean. A map under 7×7 is pooled whole.
        """
        _, _, _, height, width = blob.shape
        x = F.avg_pool3d(blob.float(), (2, min(7, height), min(7, width)), stride=1)  # N×1024×7×1×1
        return x.mean((2, 3, 4)).to(blob.dtype)  # N×1024

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The pooled features, and logits: the mean of what the classifier says at each time. N×1024 comes in."""
        yield FEATURES, x  # N×1024
        if self.logits is not None:  # it is linear, so of the mean it says the mean
            yield CLASSIFIER, self.logits(x[:, :, None, None, None]).flatten(1)  # N×K

    def _pool(self, x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
        if self._pads_as_even:  # zeros never win: what comes in has been through a ReLU
            return F.max_pool3d(F.pad(x, _even_padding(kernel, stride)), kernel, stride, ceil_mode=True)
        return max_pool_same(x, kernel, stride)


def _even_padding(kernel: Triple, stride: Triple) -> tuple[int, ...]:
    """SAME's padding where the strides divide the sizes, in the order of F.pad."""
    return same_padding(stride, kernel, stride)


def _spec(modality: Modality, num_classes: int | None, min_frames: int, preprocessing: Preprocessing) -> BackboneSpec:
    layers = {**MAPS, FEATURES: 1024}
    if num_classes is not None:
        layers[CLASSIFIER] = num_classes
    return BackboneSpec(
        name=f"i3d_{modality}",
        modality=modality,
        preprocessing=preprocessing,
        frames=FRAMES,
        min_frames=min_frames,
        max_frames=None,
        size=None,
        layers=layers,
        map_layers=tuple(MAPS),
        default_layer=FEATURES,
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


def init_random(net: Network, seed: int) -> None:
    """Kaiming-normal convolutions, batch norms that change nothing, a classifier without bias."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.named_parameters():
        if value.ndim == 5:
            nn.init.kaiming_normal_(value, nonlinearity="relu", generator=generator)
        else:
            nn.init.constant_(value, 1.0 if name.endswith("bn.weight") else 0.0)


def _model(modality: Modality) -> Model:
    def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> I3D:
        """An I3D on the meta device. Options: port (deepmind, video_features). Raises UsageError."""
        port = options.get("port", "deepmind")
        if port not in EPS:
            raise UsageError(f"model_options.port: write deepmind or video_features, got {port!r}")
        with torch.device("meta"):
            return I3D(modality=modality, num_classes=num_classes, port=str(port), preprocessing=preprocessing)

    return Model(
        name=f"i3d_{modality}",
        modality=modality,
        num_classes=NUM_CLASSES,
        classifier=CLASSIFIER,
        formats=formats(modality),
        recipes=RECIPES[modality],
        open_net=open_net,
        init_random=init_random,
        option_names=("port",),
    )


MODELS = {"i3d_rgb": _model("rgb"), "i3d_flow": _model("flow")}
