"""The 3D version of each call that a 2D net makes on its maps: functions of torch and methods of tensors, by name.

A call is found by its name, `F.relu`, `torch.relu` and `x.relu()` alike. Functions here have the arguments of the 2D
function they stand for, with N×C×T×H×W in place of N×C×H×W as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.backbones.inflate_layers import per_frame, time_pad


def lift(value: Any) -> Any:
    """A tensor of the 2D net beside a map: N×C×H×W -> N×C×1×H×W, which broadcasts over time. The rest as it is."""
    return value.unsqueeze(-3) if isinstance(value, Tensor) and value.ndim in (3, 4) else value


def mean_over_time(x: Tensor) -> Tensor:
    """N×C×T×H×W -> N×C×H×W."""
    return x.mean(2)


def size(x: Tensor, dim: int | None = None) -> Any:
    """The size that the 2D net would see: N, C, H, W."""
    sizes = (*x.shape[:2], *x.shape[3:])
    return sizes if dim is None else sizes[dim]


def rank(x: Tensor) -> int:
    """The number of axes that the 2D net would see."""
    return x.ndim - 1


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """With a weight that is already O×I×k_t×kh×kw."""
    x = F.pad(x, (0, 0, 0, 0, *time_pad(weight.shape[2])), mode="replicate")
    if padding == "same":
        gaps = [d * (k - 1) for k, d in zip(weight.shape[3:], pair(dilation), strict=True)]
        x = F.pad(x, (gaps[1] // 2, gaps[1] - gaps[1] // 2, gaps[0] // 2, gaps[0] - gaps[0] // 2))
    pads = (0, 0) if isinstance(padding, str) else pair(padding)
    return F.conv3d(x, weight, bias, (1, *pair(stride)), (0, *pads), (1, *pair(dilation)), groups)


def max_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    kernel, step = (1, *pair(kernel_size)), (1, *pair(stride or kernel_size))
    return F.max_pool3d(x, kernel, step, (0, *pair(padding)), (1, *pair(dilation)), ceil_mode)


def avg_pool2d(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return per_frame(F.avg_pool2d, x, *args, **kwargs)  # F.avg_pool3d refuses maps that are smaller than its kernel


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    return F.adaptive_avg_pool3d(x, (x.shape[2], *pair(output_size)))


def adaptive_max_pool2d(x: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    return F.adaptive_max_pool3d(x, (x.shape[2], *pair(output_size)))


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    return F.pad(x, (*pad[:4], 0, 0, *pad[4:]) if len(pad) > 2 else tuple(pad), mode, value)


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return F.dropout3d(x, p, training, inplace)


def interpolate(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return per_frame(F.interpolate, x, *args, **kwargs)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    return per_frame(F.pixel_shuffle, x, upscale_factor)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Of maps; what was lifted beside them has one frame, and gets as many as they have."""
    num_frames = max(x.shape[2] for x in tensors)
    return torch.cat([x.expand(-1, -1, num_frames, -1, -1) for x in tensors], dim)


def expand(x: Tensor, *sizes: Any) -> Tensor:
    sizes = tuple(sizes[0]) if len(sizes) == 1 else sizes
    return x.expand(*sizes[:2], -1, *sizes[2:])


def slices(x: Tensor, index: tuple[slice, ...]) -> Tensor:
    return x[(*index[:2], slice(None), *index[2:])]


def pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, int) or value is None:
        return value, value
    values = tuple(value)
    return values if len(values) == 2 else (values[0], values[0])


# maps -> a map, by a function of this file
SPATIAL: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (
        *(conv2d, max_pool2d, avg_pool2d, adaptive_avg_pool2d, adaptive_max_pool2d),
        *(pad, dropout2d, interpolate, pixel_shuffle, expand),
    )
}

# maps -> a map, the same function: by element, or by channel, with any axes behind it
ELEMENTWISE_NAMES = """
    add add_ iadd sub sub_ isub mul mul_ imul multiply div div_ truediv itruediv pow neg abs exp log sqrt rsqrt square
    reciprocal sign minimum maximum clamp clamp_ clamp_min clamp_max clip where lerp addcmul erf sin cos
    relu relu_ relu6 leaky_relu rrelu elu celu selu gelu silu mish sigmoid sigmoid_ logsigmoid tanh tanh_ hardtanh
    hardtanh_ hardswish hardsigmoid softplus softsign threshold dropout alpha_dropout stochastic_depth
    contiguous clone detach float half bfloat16 double to type type_as expand_as
"""
BY_CHANNEL_NAMES = """
    prelu batch_norm instance_norm group_norm local_response_norm native_channel_shuffle channel_shuffle
    feature_alpha_dropout
"""
ELEMENTWISE = frozenset(ELEMENTWISE_NAMES.split())
ANY_RANK = ELEMENTWISE | frozenset(BY_CHANNEL_NAMES.split())

# the same of N×T×H×W×C: what permute makes of a map for layers that go by the last axis
CHANNELS_LAST = ELEMENTWISE | {"layer_norm", "linear"}

# maps -> a map, or several (chunk, split), along an axis: where the axis stands among the arguments
ALONG = {"cat": 1, "concat": 1, "softmax": 1, "log_softmax": 1, "normalize": 2, "glu": 1, "chunk": 2, "split": 2}
SEVERAL = frozenset({"chunk", "split"})

# a map -> a map where axes are kept or are not H and W, a vector where H and W go
REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})

# axes of permute, and what they are with time: N×C×H×W -> N×H×W×C, and back
TO_LAST = {(0, 2, 3, 1): (0, 2, 3, 4, 1)}
FROM_LAST = {(0, 3, 1, 2): (0, 4, 1, 2, 3)}

# a map -> a vector
LEAVING = frozenset({"flatten", "view", "reshape", "squeeze"})
