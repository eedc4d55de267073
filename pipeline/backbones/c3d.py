"""C3D (Tran et al. 2015, "Learning Spatiotemporal Features with 3D Convolutional Networks").

Layer names, sizes and preprocessing are those of the released Caffe prototxt.
N clips, C channels, T frames, H×W pixels, D features, K classes; x is (N, C, T, H, W), written N×C×T×H×W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.checkpoints import KeyMap, WeightsReport
from pipeline.backbones.identity import Option
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import ReelmillError, UsageError

FRAMES = 16
SIZE = 112  # px, of the square crop
RESIZE = (128, 171)  # height, width
CROP_AT = (8, 29)  # top, left: centre crop, rounded as Caffe does
NUM_CLASSES = 487  # Sports-1M
CLASSIFIER = "fc8"

# B, G, R: average over T, H and W of the published Sports-1M mean volume, at the crop's position
# (sports1m_mean_16x112x112x3.npy, sha256 a92f47a8…, float64 average).
MEAN_BGR = (95.13514237, 102.86287664, 107.75984221)

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
    "mmaction2 trains C3D with symmetric pool5 padding: add model_options {pool5: symmetric} for the numbers of "
    "weights that were fine-tuned there"
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


class C3D(nn.Module):
    """Eight 3×3×3 convolutions, five max-pools, three fully connected layers; for inference, so without dropout."""

    weights: WeightsReport

    def __init__(self, *, num_classes: int | None, pool5: str, mean: Tensor, mean_source: str) -> None:
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
        self.options: dict[str, Option] = {"pool5": pool5}
        self._mean = mean  # 3×1×1×1 or 3×16×112×112; not a buffer: casting the net to bf16 must not round it
        self.spec = _spec(num_classes, mean, mean_source)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips N×3×16×112×112. Raises ReelmillError where the weights have no classifier."""
        return self.features(x, layer="fc8")

    def features(self, x: Tensor, *, layer: str = "fc6") -> Tensor:
        """(N, D) of one layer: fc6 and fc7 after ReLU, as Caffe's in-place blobs are; fc8 the logits; pool5 flattened
        in (C, T, H, W) order; a convolution after ReLU, averaged over T, H and W. Nothing beyond it is computed.

        Raises UsageError for a layer that the net has not.
        """
        self.spec.require_layer(layer)
        # On a CPU few clips pass the convolutions at once: one clip's conv1a alone is 26 MB in bf16, and larger
        # blobs cost more in page faults than they gain. The fully connected layers see the whole batch.
        at_once = max(1, torch.get_num_threads() // 8) if x.device.type == "cpu" else len(x)
        trunk_layer = layer if layer in CONVS else "pool5"
        x = torch.cat([self._trunk(part, trunk_layer) for part in x.split(at_once)])  # N×8192, or N×C
        if layer == trunk_layer:
            return x
        x = F.relu(self.fc6(x))  # N×4096
        if layer == "fc6":
            return x
        x = F.relu(self.fc7(x))  # N×4096
        if layer == "fc7":
            return x
        assert self.fc8 is not None
        return self.fc8(x)  # N×K

    def _trunk(self, x: Tensor, layer: str) -> Tensor:
        blob = next(blob for name, blob in self._blobs(x) if name == layer)
        return blob.flatten(1) if layer == "pool5" else blob.float().mean((2, 3, 4)).to(blob.dtype)

    def _blobs(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each named blob, computed when it is asked for. N×3×16×112×112 comes in."""
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

    def fit(self, frames: np.ndarray) -> np.ndarray:
        """(16, H, W, 3) uint8 RGB of any size -> (16, 112, 112, 3); see `spec.words`. Raises ReelmillError."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ReelmillError(f"c3d takes uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
        if len(frames) != FRAMES:
            raise ReelmillError(f"c3d takes clips of {FRAMES} frames, got one of {len(frames)}")
        if frames.shape[1:3] == (SIZE, SIZE):
            return frames
        if frames.shape[1:3] != RESIZE:
            width_height = RESIZE[::-1]
            frames = np.stack([cv2.resize(frame, width_height, interpolation=cv2.INTER_LINEAR) for frame in frames])
        top, left = CROP_AT
        return frames[:, top : top + SIZE, left : left + SIZE]

    def normalise(self, clips: Tensor) -> Tensor:
        """(N, 16, 112, 112, 3) uint8 RGB -> N×3×16×112×112 float32 BGR minus the mean, channels last in memory."""
        bgr = clips.flip(-1).permute(0, 4, 1, 2, 3)  # N×3×16×112×112
        return bgr.float() - self._mean.to(clips.device)


def _conv(num_in: int, num_out: int) -> nn.Conv3d:
    return nn.Conv3d(num_in, num_out, kernel_size=3, stride=1, padding=1)


def open_net(num_classes: int | None, options: Mapping[str, Option]) -> C3D:
    """A C3D on the meta device. Options: pool5 (ceil, symmetric), mean (a .npy file). Raises UsageError."""
    unknown = sorted(set(options) - {"pool5", "mean"})
    if unknown:
        raise UsageError(f"model_options.{unknown[0]}: c3d has no such option; it has mean and pool5")
    pool5 = options.get("pool5", "ceil")
    if pool5 not in ("ceil", "symmetric"):
        raise UsageError(f"model_options.pool5: write ceil or symmetric, got {pool5!r}")
    path = options.get("mean")
    mean = torch.tensor(MEAN_BGR).view(3, 1, 1, 1) if path is None else _read_mean(str(path))
    source = "Sports-1M, per channel" if path is None else f"volume {path}, here averaged"
    with torch.device("meta"):
        return C3D(num_classes=num_classes, pool5=pool5, mean=mean, mean_source=source)


def init_random(net: C3D, seed: int) -> None:
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


def _spec(num_classes: int | None, mean: Tensor, mean_source: str) -> BackboneSpec:
    blue, green, red = mean.double().mean((1, 2, 3)).tolist()
    layers = {**CONVS, "pool5": 8192, "fc6": 4096, "fc7": 4096}
    if num_classes is not None:
        layers["fc8"] = num_classes
    return BackboneSpec(
        name="c3d",
        frames=FRAMES,
        size=(SIZE, SIZE),
        resize=RESIZE,
        crop_at=CROP_AT,
        colour="BGR",
        value_range=(0.0, 255.0),
        mean=(blue, green, red),
        mean_source=mean_source,
        std=(1.0, 1.0, 1.0),
        layers=layers,
        default_layer="fc6",
        classifier=CLASSIFIER,
        num_classes=num_classes,
    )


def _read_mean(path: str) -> Tensor:
    """The Sports-1M mean volume, (16, 112, 112, 3) BGR, as a 3×16×112×112 tensor. Raises UsageError."""
    try:
        volume = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"model_options.mean: {path} can't be read as a .npy file ({error})") from None
    expected = (FRAMES, SIZE, SIZE, 3)
    if volume.shape != expected:
        raise UsageError(
            f"model_options.mean: {path} has shape {volume.shape}; the mean volume is {expected}: frames, height, "
            "width, and channels in B, G, R order, already cropped to the centre"
        )
    if not np.issubdtype(volume.dtype, np.floating) or not np.isfinite(volume).all():
        raise UsageError(f"model_options.mean: {path} must hold finite floats, got {volume.dtype}")
    return torch.from_numpy(volume.astype(np.float32)).permute(3, 0, 1, 2)
