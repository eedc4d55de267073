"""The 3D version of each 2D layer of torch.nn, its weights and its name in the net kept.

N images or clips, C channels, T frames, H×W pixels. T passes through every layer unchanged: nothing strides or pools
time, and a convolution that looks at several frames repeats the first and the last one at the ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


class TimeConv3d(nn.Conv3d):
    """A 2D convolution over k_t frames, stride 1 in time. N×C×T×H×W -> N×C'×T×H'×W'.

    Zeros at the ends of a clip would darken its first and last frames; repeated frames keep a constant video
    constant. H and W are padded as the 2D convolution pads them, whatever its padding and padding_mode are.
    """

    def __init__(self, conv: nn.Conv2d, time_kernel: int) -> None:
        plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            (time_kernel, *_pair(conv.kernel_size)),
            stride=(1, *_pair(conv.stride)),
            padding=(0, *_pair(conv.padding)) if plain else 0,
            dilation=(1, *_pair(conv.dilation)),
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
        )
        self.weight = nn.Parameter(inflate_weight(conv.weight.detach(), time_kernel), conv.weight.requires_grad)
        self.bias = conv.bias
        self._time_pad = time_pad(time_kernel)
        # left, right, top, bottom, as nn.Conv2d resolved "same" and the like
        self._space_pad = [] if plain else [int(n) for n in conv._reversed_padding_repeated_twice]
        self._space_mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        self.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        if any(self._time_pad):
            x = F.pad(x, (0, 0, 0, 0, *self._time_pad), mode="replicate")
        if any(self._space_pad):
            x = F.pad(x, (*self._space_pad, 0, 0), mode=self._space_mode)
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def inflate_weight(weight: Tensor, time_kernel: int) -> Tensor:
    """(O, I, kh, kw) -> (O, I, k_t, kh, kw): repeated and divided by k_t: equal frames give the 2D answer."""
    return weight.unsqueeze(2).repeat(1, 1, time_kernel, 1, 1) / time_kernel


def time_pad(time_kernel: int) -> Pair:
    """Frames to repeat before and after a clip, so that its length stays; an even kernel's odd one goes after."""
    return (time_kernel - 1) // 2, time_kernel // 2


class PerFrame(nn.Module):
    """A 2D layer without weights, on each frame by itself. N×C×T×H×W -> N×C'×T×H'×W'."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(self.layer, x)


def per_frame(of_images: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Call a function of N×C×H×W on each frame of N×C×T×H×W."""
    frames = x.transpose(1, 2).flatten(0, 1)  # NT×C×H×W
    return of_images(frames, *args, **kwargs).unflatten(0, (len(x), -1)).transpose(1, 2)


def _transposed(conv: nn.ConvTranspose2d) -> nn.Module:
    out = nn.ConvTranspose3d(
        conv.in_channels,
        conv.out_channels,
        (1, *_pair(conv.kernel_size)),
        stride=(1, *_pair(conv.stride)),
        padding=(0, *_pair(conv.padding)),
        output_padding=(0, *_pair(conv.output_padding)),
        groups=conv.groups,
        bias=conv.bias is not None,
        dilation=(1, *_pair(conv.dilation)),
        device="meta",
    )
    out.weight = nn.Parameter(conv.weight.detach().unsqueeze(2), conv.weight.requires_grad)
    out.bias = conv.bias
    return out.train(conv.training)


def _norm(kind: type[nn.Module]) -> Callable[[Any], nn.Module]:
    """Batch and instance norms are the same in 2D and 3D but for their check of the input's rank."""

    def convert(norm: Any) -> nn.Module:
        norm.__class__ = kind
        return norm

    return convert


def _max_pool(pool: nn.MaxPool2d) -> nn.Module:
    kernel, stride = (1, *_pair(pool.kernel_size)), (1, *_pair(pool.stride))
    padding, dilation = (0, *_pair(pool.padding)), (1, *_pair(pool.dilation))
    return nn.MaxPool3d(kernel, stride, padding, dilation, ceil_mode=pool.ceil_mode)


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) or value is None else tuple(value)


LAYERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {  # nn.Conv2d is not here: it needs its time kernel
    nn.ConvTranspose2d: _transposed,
    nn.BatchNorm2d: _norm(nn.BatchNorm3d),
    nn.InstanceNorm2d: _norm(nn.InstanceNorm3d),
    nn.MaxPool2d: _max_pool,
    # None: as long as the input is
    nn.AdaptiveAvgPool2d: lambda pool: nn.AdaptiveAvgPool3d((None, *_pair(pool.output_size))),
    nn.AdaptiveMaxPool2d: lambda pool: nn.AdaptiveMaxPool3d((None, *_pair(pool.output_size))),
    nn.Dropout2d: lambda drop: nn.Dropout3d(drop.p, drop.inplace).train(drop.training),
    nn.ZeroPad2d: lambda pad: nn.ConstantPad3d((*pad.padding, 0, 0), 0.0),
    nn.ConstantPad2d: lambda pad: nn.ConstantPad3d((*pad.padding, 0, 0), pad.value),
    nn.ReflectionPad2d: lambda pad: nn.ReflectionPad3d((*pad.padding, 0, 0)),
    nn.ReplicationPad2d: lambda pad: nn.ReplicationPad3d((*pad.padding, 0, 0)),
    nn.CircularPad2d: lambda pad: nn.CircularPad3d((*pad.padding, 0, 0)),
    nn.Softmax2d: lambda softmax: nn.Softmax(dim=1),
    nn.AvgPool2d: PerFrame,  # nn.AvgPool3d refuses maps that are smaller than its kernel
    nn.LPPool2d: PerFrame,
    nn.PixelShuffle: PerFrame,
    nn.PixelUnshuffle: PerFrame,
    nn.Upsample: PerFrame,
    nn.UpsamplingBilinear2d: PerFrame,
    nn.UpsamplingNearest2d: PerFrame,
}

# Layers that do to N×C×T×H×W what they do to N×C×H×W: by element, or by channel, with any axes behind it.
ELEMENTWISE: frozenset[type[nn.Module]] = frozenset(
    {
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
        *(nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink),
        *(nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Threshold, nn.Identity, nn.Dropout, nn.AlphaDropout),
    }
)
ANY_RANK: frozenset[type[nn.Module]] = ELEMENTWISE | {
    *(nn.PReLU, nn.GroupNorm, nn.SyncBatchNorm, nn.LocalResponseNorm, nn.ChannelShuffle, nn.FeatureAlphaDropout)
}
