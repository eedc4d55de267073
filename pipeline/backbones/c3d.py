"""C3D (Tran et al. 2015, "Learning Spatiotemporal Features with 3D Convolutional Networks").

Layer names, sizes and preprocessing are those of the released Caffe prototxt.
N clips, C channels, T frames, H×W pixels, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.identity import Option
from pipeline.backbones.model import Model
from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import UsageError

FRAMES = 16
SIZE = (112, 112)  # px, of the crop
NUM_CLASSES = 487  # Sports-1M
CLASSIFIER = "fc8"

# B, G, R: average over T, H and W of the published Sports-1M mean volume, at the crop's position
# (sports1m_mean_16x112x112x3.npy, sha256 a92f47a8…, float64 average).
MEAN_BGR = (95.13514237, 102.86287664, 107.75984221)

RECIPES = {
    "c3d-sports1m": Preprocessing(
        recipe="c3d-sports1m",
        modality="rgb",
        fps=None,  # 16 frames in a row, at the rate of each video
        resize=(128, 171),
        crop=SIZE,  # at (8, 29), as Caffe rounds
        colour="BGR",
        mean=MEAN_BGR,
        mean_source="Sports-1M, per channel",
    ),
    "mmaction2": Preprocessing(
        recipe="mmaction2",
        modality="rgb",
        fps=None,
        short_side=128,
        long_side="round",
        crop=SIZE,
        colour="RGB",  # its configs say to_bgr=False, and give the means of B, G, R in that order
        mean=(104.0, 117.0, 128.0),
        mean_source="of its configs",
    ),
}

CONVS = {  # layer -> C
    "conv1a": 64,
    "conv2a": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}


def _params(*modules: str) -> list[str]:
    return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


OURS = _params(*CONVS, "fc6", "fc7", "fc8")
MMACTION_NOTE = (
    "mmaction2 trains C3D with symmetric pool5 padding and input of its own: add model_options {pool5: symmetric} and "
    "preprocess: mmaction2 for the numbers of weights that were fine-tuned there"
)
FORMATS = (
    KeyMap("reelmill", dict(zip(OURS, OURS, strict=True))),
    KeyMap(
        "DavideA c3d.pickle",
        dict(zip(_params("conv1", "conv2", *list(CONVS)[2:], "fc6", "fc7", "fc8"), OURS, strict=True)),
    ),
    KeyMap(
        "mmaction2 backbone",
        dict(zip(_params(*(f"{conv}.conv" for conv in CONVS), "fc6", "fc7"), OURS, strict=False)),
        MMACTION_NOTE,
    ),
    KeyMap(
        "mmaction2 recognizer",
        dict(
            zip(
                _params(
                    *(f"backbone.{conv}.conv" for conv in CONVS), "backbone.fc6", "backbone.fc7", "cls_head.fc_cls"
                ),
                OURS,
                strict=True,
            )
        ),
        MMACTION_NOTE,
    ),
)


class C3D(Network):
    """Eight 3×3×3 convolutions, five max-pools, three fully connected layers; for inference, so without dropout."""

    def __init__(self, *, num_classes: int | None, pool5: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.conv1a = _conv(3, 64)
        self.conv2a = _conv(64, 128)
        self.conv3a = _conv(128, 256)
        self.conv3b = _conv(256, 256)
        self.conv4a = _conv(256, 512)
        self.conv4b = _conv(512, 512)
        self.conv5a = _conv(512, 512)
        self.conv5b = _conv(512, 512)
        # Caffe pools in ceil mode, padding at the right and bottom only; the PyTorch ports pad both sides.
        # Both take 7×7 to 4×4, from different windows.
        self.pool5 = nn.MaxPool3d(2, 2, ceil_mode=True) if pool5 == "ceil" else nn.MaxPool3d(2, 2, padding=(0, 1, 1))
        self.fc6 = nn.Linear(512 * 1 * 4 * 4, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes) if num_classes is not None else None
        self.options = {"pool5": pool5}
        self.spec = _spec(num_classes, preprocessing)

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each convolution after ReLU, and pool5. N×3×16×112×112 comes in."""
        yield "conv1a", (x := self.conv1a(x).relu_())  # N×64×16×112×112
        x = F.max_pool3d(x, (1, 2, 2))  # N×64×16×56×56
        yield "conv2a", (x := self.conv2a(x).relu_())  # N×128×16×56×56
        x = F.max_pool3d(x, 2)  # N×128×8×28×28
        yield "conv3a", (x := self.conv3a(x).relu_())  # N×256×8×28×28
        yield "conv3b", (x := self.conv3b(x).relu_())  # N×256×8×28×28
        x = F.max_pool3d(x, 2)  # N×256×4×14×14
        yield "conv4a", (x := self.conv4a(x).relu_())  # N×512×4×14×14
        yield "conv4b", (x := self.conv4b(x).relu_())  # N×512×4×14×14
        x = F.max_pool3d(x, 2)  # N×512×2×7×7
        yield "conv5a", (x := self.conv5a(x).relu_())  # N×512×2×7×7
        yield "conv5b", (x := self.conv5b(x).relu_())  # N×512×2×7×7
        yield "pool5", self.pool5(x)  # N×512×1×4×4

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """fc6 and fc7 after ReLU, as Caffe's in-place blobs are; fc8 the logits. N×8192 comes in."""
        yield "fc6", (x := F.relu(self.fc6(x)))  # N×4096
        yield "fc7", (x := F.relu(self.fc7(x)))  # N×4096
        if self.fc8 is not None:
            yield "fc8", self.fc8(x)  # N×K

    def pooled(self, layer: str, blob: Tensor) -> Tensor:
        """A convolution's mean over T, H and W; pool5 flattened in (C, T, H, W) order."""
        return blob.flatten(1) if layer == "pool5" else super().pooled(layer, blob)


def _conv(num_in: int, num_out: int) -> nn.Conv3d:
    return nn.Conv3d(num_in, num_out, kernel_size=3, stride=1, padding=1)


def open_net(num_classes: int | None, options: Mapping[str, Option], preprocessing: Preprocessing) -> C3D:
    """A C3D on the meta device. Options: pool5 (ceil, symmetric). Raises UsageError."""
    pool5 = options.get("pool5", "ceil")
    if pool5 not in ("ceil", "symmetric"):
        raise UsageError(f"model_options.pool5: write ceil or symmetric, got {pool5!r}")
    with torch.device("meta"):
        return C3D(num_classes=num_classes, pool5=str(pool5), preprocessing=preprocessing)


def init_random(net: Network, seed: int) -> None:
    """Kaiming-uniform weights, biases 0; each 3×3×3 kernel with its mean taken off.

    Kernels without a mean see edges and changes, not brightness: a linear probe on random features then tells
    motion classes at .95 where plain Kaiming gives .67 (conv4b, 4 classes of `reelmill synth`).
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(value)
            continue
        nn.init.kaiming_uniform_(value, nonlinearity="relu", generator=generator)
        if value.ndim == 5:
            mean = value.mean((2, 3, 4), keepdim=True, dtype=torch.float64).float()
            value.sub_(mean).mul_((27 / 26) ** 0.5)  # the mean took 1/27 of the variance


def _spec(num_classes: int | None, preprocessing: Preprocessing) -> BackboneSpec:
    layers = {**CONVS, "pool5": 8192, "fc6": 4096, "fc7": 4096}
    if num_classes is not None:
        layers[CLASSIFIER] = num_classes
    return BackboneSpec(
        name="c3d",
        modality="rgb",
        preprocessing=preprocessing,
        frames=FRAMES,
        min_frames=FRAMES,
        max_frames=FRAMES,
        size=SIZE,
        layers=layers,
        map_layers=(*CONVS, "pool5"),
        default_layer="fc6",
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


MODELS = {
    "c3d": Model(
        name="c3d",
        modality="rgb",
        num_classes=NUM_CLASSES,
        classifier=CLASSIFIER,
        formats=FORMATS,
        recipes=RECIPES,
        open_net=open_net,
        init_random=init_random,
        option_names=("pool5",),
    )
}
