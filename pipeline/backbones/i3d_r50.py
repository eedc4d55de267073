"""I3D-R50: ResNet-50 inflated in time (Carreira and Zisserman 2017; Wang et al. 2018, table 1), with the non-local
blocks of the latter if asked for.

Two published nets have parameters of the same shapes and walk through time differently, see VARIANTS.
N clips, C channels, T frames, H×W pixels, D features, K classes; t, h and w are T/2, H/4 and W/4 in the 8x8 variant,
and T/8, H/4 and W/4 in the 32x2 one; odd sizes are rounded up by strides, down by the pool over time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.i3d_r50_keys import DEPTHS, FORMATS, NON_LOCAL
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.nonlocal_block import Affinity, NonLocal
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import UsageError

NUM_CLASSES = 400  # Kinetics-400
CLASSIFIER = "logits"
MAPS = {"stem": 64, "res2": 256, "res3": 512, "res4": 1024, "res5": 2048}  # layer -> C
# Which blocks of a stage see three frames in their first convolution, repeated to its depth.
TEMPORAL = {"res2": (True,), "res3": (True, False), "res4": (True, False), "res5": (False, True)}

NonLocalKind = Literal["none", "embedded", "gaussian"]


@dataclass(frozen=True, slots=True)
class Variant:
    """What one publisher's net does with time."""

    frames: int
    min_frames: int  # fewer don't survive the pool after res2
    stem_stride: int  # of the first convolution and of the max pool after it, in frames
    head_window: tuple[int, int, int] | None  # avgpool's, T×H×W, moved by 1; None: the whole map
    affinity: Affinity  # of embedded non-local blocks, unless asked otherwise


VARIANTS = {
    # PyTorchVideo I3D_8x8_R50: 8 frames, every eighth
    "8x8": Variant(8, min_frames=2, stem_stride=1, head_window=(4, 7, 7), affinity="scaled_softmax"),
    # mmaction2 i3d_r50 32x2x1: 32 frames, every second. dot_product: its best non-local weights (74.80)
    "32x2": Variant(32, min_frames=5, stem_stride=2, head_window=None, affinity="dot_product"),
}

RECIPES = {
    "pytorchvideo": Preprocessing(
        recipe="pytorchvideo",
        modality="rgb",
        fps=30 / 8,  # it takes every eighth frame of 30 fps
        short_side=256,
        long_side="floor",
        crop=(256, 256),
        range=(0.0, 1.0),
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    ),
    "mmaction2": Preprocessing(
        recipe="mmaction2",
        modality="rgb",
        fps=30 / 2,
        short_side=256,
        long_side="round",
        crop=(224, 224),  # of its val pipeline; its test pipeline averages three crops of 256
        mean=(123.675, 116.28, 103.53),
        mean_source="ImageNet",
        std=(58.395, 57.12, 57.375),
    ),
}


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut; the first sees three frames where it is `temporal`."""

    def __init__(self, num_in: int, num_out: int, *, temporal: bool, stride: int, non_local: nn.Module) -> None:
        super().__init__()
        inner = num_out // 4
        self.conv1 = ConvBN(num_in, inner, (3, 1, 1) if temporal else 1)
        self.conv2 = ConvBN(inner, inner, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1))
        self.conv3 = ConvBN(inner, num_out, 1, relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if num_in != num_out:
            self.shortcut = ConvBN(num_in, num_out, 1, stride=(1, stride, stride), padding=(0, 0, 0), relu=False)
        self.non_local = non_local

    def forward(self, x: Tensor) -> Tensor:
        """N×C×T×H×W -> N×4C'×T×H/stride×W/stride"""
        y = self.conv3(self.conv2(self.conv1(x)))
        return self.non_local(y.add_(self.shortcut(x)).relu_())


class I3DR50(Network):
    """Stem, four stages of bottlenecks, average pool, classifier; for inference, so without dropout."""

    def __init__(
        self,
        *,
        num_classes: int | None,
        variant: str,
        non_local: NonLocalKind,
        affinity: Affinity,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__()
        self.variant = VARIANTS[variant]
        self.stem = ConvBN(3, 64, (5, 7, 7), stride=(self.variant.stem_stride, 2, 2), padding=(2, 3, 3))
        used = None if non_local == "none" else affinity
        self.res2 = _stage("res2", 64, stride=1, affinity=used)
        self.res3 = _stage("res3", 256, stride=2, affinity=used)
        self.res4 = _stage("res4", 512, stride=2, affinity=used)
        self.res5 = _stage("res5", 1024, stride=2, affinity=used)
        self.logits = nn.Linear(2048, num_classes) if num_classes is not None else None
        self.options = {"variant": variant, "non_local": non_local}
        if non_local == "embedded":
            self.options["affinity"] = affinity
        self.spec = _spec(num_classes, self.variant, preprocessing)

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The stem after its pool, and each stage. N×3×T×H×W comes in."""
        strides = (self.variant.stem_stride, 2, 2)
        x = F.max_pool3d(self.stem(x), (1, 3, 3), strides, padding=(0, 1, 1))
        yield "stem", x  # N×64×2t×h×w
        yield "res2", (x := self.res2(x))  # N×256×2t×h×w
        x = F.max_pool3d(x, (2, 1, 1))  # N×256×t×h×w
        yield "res3", (x := self.res3(x))  # N×512×t×h/2×w/2
        yield "res4", (x := self.res4(x))  # N×1024×t×h/4×w/4
        yield "res5", self.res5(x)  # N×2048×t×h/8×w/8

    def bridge(self, blob: Tensor) -> Tensor:
        """The head's average pool, N×2048: the mean over T, H and W. In the 8x8 variant it is the mean over all windows
        of 4×7×7 places, which weighs inner places more where the map is larger; where it is smaller, it is the window.
        """
        dtype, blob = blob.dtype, blob.float()
        if self.variant.head_window is not None:
            window = tuple(map(min, self.variant.head_window, blob.shape[2:]))
            blob = F.avg_pool3d(blob, window, stride=1)
        return blob.mean((2, 3, 4)).to(dtype)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """avgpool as the published head has it, see `bridge`; and logits. N×2048 comes in."""
        yield "avgpool", x  # N×2048
        if self.logits is not None:
            yield "logits", self.logits(x)  # N×K


def _stage(stage: str, num_in: int, *, stride: int, affinity: Affinity | None) -> nn.Sequential:
    num_out = MAPS[stage]
    blocks = []
    for index, temporal in enumerate(islice(cycle(TEMPORAL[stage]), DEPTHS[stage])):
        non_local: nn.Module = nn.Identity()
        if affinity is not None and index in NON_LOCAL.get(stage, ()):
            non_local = NonLocal(num_out, affinity=affinity)
        first = index == 0
        blocks.append(
            Bottleneck(
                num_in if first else num_out,
                num_out,
                temporal=temporal,
                stride=stride if first else 1,
                non_local=non_local,
            )
        )
    return nn.Sequential(*blocks)


def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> I3DR50:
    """An I3D-R50 on the meta device. Raises UsageError for an option's value.

    Options: variant (8x8, 32x2), non_local (none, embedded, gaussian), affinity (of embedded ones).
    """
    variant = _choice(options, "variant", tuple(VARIANTS), "8x8")
    kind = cast(NonLocalKind, _choice(options, "non_local", get_args(NonLocalKind), "none"))
    embedded = tuple(name for name in get_args(Affinity) if name != "gaussian")
    affinity = _choice(options, "affinity", embedded, VARIANTS[variant].affinity)
    if "affinity" in options and kind != "embedded":
        raise UsageError(f"model_options.affinity: this is for non_local: embedded, and the net's is {kind}")
    with torch.device("meta"):
        return I3DR50(
            num_classes=num_classes,
            variant=variant,
            non_local=kind,
            affinity="gaussian" if kind == "gaussian" else cast(Affinity, affinity),
            preprocessing=preprocessing,
        )


def _choice(options: Mapping[str, Option], name: str, choices: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in choices:
        raise UsageError(f"model_options.{name}: write one of {', '.join(choices)}; got {value!r}")
    return str(value)


def init_random(net: Network, seed: int) -> None:
    """Kaiming-normal convolutions, batch norms of weight 1; non-local blocks start as the identity.

    The last norm of a bottleneck has weight 1/4, so that sixteen of them add up to no more than a few times the stem.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.named_parameters():
        if value.ndim == 5:
            nn.init.kaiming_normal_(value, nonlinearity="relu", generator=generator)
        elif value.ndim == 2:
            nn.init.normal_(value, std=0.01, generator=generator)
        elif name.endswith(".bn.weight"):
            value.fill_(0.0 if "non_local" in name else 0.25 if "conv3" in name else 1.0)
        else:
            nn.init.zeros_(value)


def _spec(num_classes: int | None, variant: Variant, preprocessing: Preprocessing) -> BackboneSpec:
    layers = {**MAPS, "avgpool": 2048}
    if num_classes is not None:
        layers[CLASSIFIER] = num_classes
    return BackboneSpec(
        name="i3d_r50",
        modality="rgb",
        preprocessing=preprocessing,
        frames=variant.frames,
        min_frames=variant.min_frames,
        max_frames=None,
        size=None,
        layers=layers,
        map_layers=tuple(MAPS),
        default_layer="avgpool",
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


MODELS = {
    "i3d_r50": Model(
        name="i3d_r50",
        modality="rgb",
        num_classes=NUM_CLASSES,
        classifier=CLASSIFIER,
        formats=FORMATS,
        recipes=RECIPES,
        open_net=open_net,
        init_random=init_random,
        option_names=("variant", "non_local", "affinity"),
        recipe_of=lambda options: "mmaction2" if options.get("variant") == "32x2" else "pytorchvideo",
    )
}
