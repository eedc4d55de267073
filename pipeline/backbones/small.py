"""A small network of C3D's family that trains from scratch on a CPU, with four ways to fuse frames.

Convolutions of 3×3 with batch norm and ReLU, max-pools between them, a mean over all places, one linear layer. What
the model option `fusion` changes is where frames meet (Karpathy et al. 2014, "Large-scale Video Classification with
Convolutional Neural Networks"); the widths, the depth and the frames' sizes are the same in all four:

    single_frame    nowhere: each frame by itself, and the mean of the frames' logits
    late            after the last map: the frames' mean vectors side by side, and a fully connected layer on them
    early           in the first convolution, which takes all frames as its channels
    3d              in every convolution, 3×3×3 as C3D's, with C3D's pools over time

`late` and `early` hold weights for each place in time, so they take clips of one length: the option `frames`.
N clips, C channels, T frames, H×W pixels, D features, K classes; shapes are for 16 frames of 72×88.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.conv_bn import ConvBN
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec, Modality
from schemas.errors import UsageError

Fusion = Literal["single_frame", "late", "early", "3d"]

ONE_LENGTH = ("late", "early")
FRAMES = 16
MIN_FRAMES_3D = 4  # two pools halve the time
MIN_SIDE_PX = 32  # four halvings leave two places
NUM_CLASSES = 8  # of random weights, where no number is asked for
CLASSIFIER = "logits"
MAPS = {"conv1": 16, "conv2": 32, "conv3a": 64, "conv3b": 64, "conv4a": 128, "conv4b": 128}  # layer -> C
WIDTH = MAPS["conv4b"]
CHANNELS: dict[Modality, int] = {"rgb": 3, "flow": 2}

RECIPES: dict[Modality, Preprocessing] = {
    "rgb": Preprocessing(
        recipe="small",
        modality="rgb",
        fps=None,  # whatever it was trained on
        range=(0.0, 1.0),
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
    ),
    "flow": Preprocessing(recipe="small", modality="flow", fps=None, bound_px=20.0),
}


class Small(Network):
    """Six convolutions; from conv3a on maps have an eighth of the frame's sides, and of `3d` half the clip's frames."""

    def __init__(
        self, modality: Modality, num_classes: int | None, *, fusion: Fusion, frames: int, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        deep = 3 if fusion == "3d" else 1
        first = frames if fusion == "early" else deep
        ahead = 0 if fusion == "early" else deep // 2
        pads = (deep // 2, 1, 1)
        # strided, for it has most of the places; 2 px early in the net cost little and save three quarters of its time
        self.conv1 = ConvBN(CHANNELS[modality], 16, (first, 3, 3), stride=(1, 2, 2), padding=(ahead, 1, 1))
        self.conv2 = ConvBN(16, 32, (deep, 3, 3), padding=pads)
        self.conv3a = ConvBN(32, 64, (deep, 3, 3), padding=pads)
        self.conv3b = ConvBN(64, 64, (deep, 3, 3), padding=pads)
        self.conv4a = ConvBN(64, 128, (deep, 3, 3), padding=pads)
        self.conv4b = ConvBN(128, 128, (deep, 3, 3), padding=pads)
        self.fc = nn.Linear(frames * WIDTH, WIDTH) if fusion == "late" else None
        self.logits = nn.Linear(WIDTH, num_classes) if num_classes is not None else None
        self._fusion = fusion
        self._halve = (2, 2, 2) if fusion == "3d" else (1, 2, 2)
        self.options = {"fusion": fusion, "frames": frames} if fusion in ONE_LENGTH else {"fusion": fusion}
        self.spec = _spec(modality, num_classes, fusion=fusion, frames=frames, preprocessing=preprocessing)

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each convolution after batch norm and ReLU. N×C×16×72×88 comes in.

        T below is 16 frame by frame; of `3d` it is what is written behind the comma, and of `early` 1 everywhere.
        """
        yield "conv1", (x := self.conv1(x))  # N×16×T×36×44, 16
        x = F.max_pool3d(x, (1, 2, 2))  # N×16×T×18×22, 16
        yield "conv2", (x := self.conv2(x))  # N×32×T×18×22, 16
        x = F.max_pool3d(x, self._halve)  # N×32×T×9×11, 8
        yield "conv3a", (x := self.conv3a(x))  # N×64×T×9×11, 8
        yield "conv3b", (x := self.conv3b(x))  # N×64×T×9×11, 8
        x = F.max_pool3d(x, self._halve)  # N×64×T×4×5, 4
        yield "conv4a", (x := self.conv4a(x))  # N×128×T×4×5, 4
        yield "conv4b", self.conv4b(x)  # N×128×T×4×5, 4

    def bridge(self, blob: Tensor) -> Tensor:
        """N×128; of `late` N×(128·16), each frame's mean over H and W."""
        if self.fc is None:
            return super().bridge(blob)
        return blob.float().mean((3, 4)).to(blob.dtype).flatten(1)

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The vector that is classified, and its logits. What `bridge` gives comes in.

        The logits of a mean are the mean of the logits: of `single_frame` the average of what each frame is given.
        """
        if self.fc is None:
            yield "avgpool", x  # N×128
        else:
            yield "fc", (x := F.relu(self.fc(x)))  # N×128
        if self.logits is not None:
            yield CLASSIFIER, self.logits(x)  # N×K

    def _check(self, x: Tensor) -> None:
        super()._check(x)
        if min(x.shape[3:]) < MIN_SIDE_PX:
            raise UsageError(
                f"{self.spec.name} takes frames of {MIN_SIDE_PX} px or more a side, got {x.shape[3]}×{x.shape[4]} "
                "(height×width)"
            )


def init_random(net: Network, seed: int) -> None:
    """He's initialisation (Kaiming-uniform weights, biases 0); batch norms that change nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.named_parameters():
        if value.ndim > 1:
            nn.init.kaiming_uniform_(value, nonlinearity="relu", generator=generator)
        else:
            nn.init.constant_(value, 1.0 if name.endswith("bn.weight") else 0.0)


def _spec(
    modality: Modality, num_classes: int | None, *, fusion: Fusion, frames: int, preprocessing: Preprocessing
) -> BackboneSpec:
    vector = "fc" if fusion == "late" else "avgpool"
    layers = {**MAPS, vector: WIDTH}
    if num_classes is not None:
        layers[CLASSIFIER] = num_classes
    min_frames = {"single_frame": 1, "late": frames, "early": frames, "3d": MIN_FRAMES_3D}[fusion]
    return BackboneSpec(
        name=f"small_{modality}",
        modality=modality,
        preprocessing=preprocessing,
        frames=frames,
        min_frames=min_frames,
        max_frames=frames if fusion in ONE_LENGTH else None,
        size=None,
        layers=layers,
        map_layers=tuple(MAPS),
        default_layer=vector,
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


def _fusion_and_frames(options: Mapping[str, Option]) -> tuple[Fusion, int]:
    fusion = options.get("fusion", "3d")
    if fusion not in get_args(Fusion):
        raise UsageError(f"model_options.fusion: write {', '.join(get_args(Fusion)[:-1])} or 3d, got {fusion!r}")
    frames = options.get("frames", FRAMES)
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 2:
        raise UsageError(f"model_options.frames: a whole number of frames, 2 or more, got {frames!r}")
    if "frames" in options and fusion not in ONE_LENGTH:
        raise UsageError(f"model_options.frames: {fusion} takes clips of any length; drop it")
    return cast(Fusion, fusion), frames


# ---------------------------------------------------------------- declarations


def _formats() -> tuple[KeyMap, ...]:
    """Its own files alone. Their metadata hold the options; `late` shows by its keys too."""
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    convs = [f"{conv}.{part}" for conv in MAPS for part in parts]
    logits = [f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"]
    plain, late = [*convs, *logits], [*convs, "fc.weight", "fc.bias", *logits]
    return (
        KeyMap("reelmill", dict(zip(plain, plain, strict=True))),
        KeyMap("reelmill", dict(zip(late, late, strict=True)), options={"fusion": "late"}),
    )


def _model(modality: Modality) -> Model:
    def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> Network:
        """On the meta device. Options: fusion, and frames of late and early. Raises UsageError."""
        fusion, frames = _fusion_and_frames(options)
        with torch.device("meta"):
            return Small(modality, num_classes, fusion=fusion, frames=frames, preprocessing=preprocessing)

    return Model(
        name=f"small_{modality}",
        modality=modality,
        num_classes=NUM_CLASSES,
        classifier=CLASSIFIER,
        formats=_formats(),
        recipes={"small": RECIPES[modality]},
        open_net=open_net,
        init_random=init_random,
        option_names=("fusion", "frames"),
    )


MODELS = {"small_rgb": _model("rgb"), "small_flow": _model("flow")}
