"""TensorFlow's SAME padding at any size, and max pooling with it.

N clips, C channels, T frames, H×W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Triple = tuple[int, int, int]


def same_padding(size: Triple, kernel: Triple, stride: Triple) -> tuple[int, ...]:
    """TensorFlow's SAME for an input of T, H, W, in the order of F.pad (W, H, T; before, after).

    Zeros so that ceil(size / stride) outputs fit; the odd one goes after (tensorflow/core/framework/common_shape_fns).
    """
    pads: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """N×C×T×H×W with the zeros of SAME around it."""
    pads = same_padding((x.shape[2], x.shape[3], x.shape[4]), kernel, stride)
    if not any(pads):
        return x
    return F.pad(x, pads).contiguous(memory_format=_layout(x))


MANY_TAPS = 27  # from so many on, a CPU is three times as fast axis by axis; in torch's own pooling below that


def max_pool_same(x: Tensor, kernel: int | Triple, stride: int | Triple) -> Tensor:
    """Max pooling with SAME padding; what is padded never wins. N×C×T×H×W."""
    kernel, stride = triple(kernel), triple(stride)
    is_learnt = x.requires_grad and torch.is_grad_enabled()  # what is written in place has no gradient
    if x.device.type == "cpu" and math.prod(kernel) >= MANY_TAPS and not is_learnt:
        for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
            x = _max_along(x, axis, k, s)
        return x
    pads = same_padding((x.shape[2], x.shape[3], x.shape[4]), kernel, stride)
    before, after = pads[4::-2], pads[5::-2]  # of T, H, W
    axes = list(zip(x.shape[2:], kernel, stride, strict=True))
    is_inside = all(n >= k for n, k, _ in axes)  # torch's own padding asks for that
    if is_inside and before == after:
        return F.max_pool3d(x, kernel, stride, before)
    # ceil mode adds what is missing after the last place: mostly all that SAME adds
    if is_inside and not any(before) and all(-(-(n - k) // s) + 1 == -(-n // s) for n, k, s in axes):
        return F.max_pool3d(x, kernel, stride, ceil_mode=True)
    return F.max_pool3d(F.pad(x, pads, value=float("-inf")).contiguous(memory_format=_layout(x)), kernel, stride)


def _max_along(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """The largest of `kernel` neighbours along one axis, at every `stride`th place."""
    size = x.shape[axis]
    num_out = -(-size // stride)
    before = max((num_out - 1) * stride + kernel - size, 0) // 2
    places = [slice(None)] * 5
    places[axis] = slice(None, None, stride)
    out = x[tuple(places)].clone(memory_format=_layout(x))  # the tap that lies inside for every output
    for tap in range(kernel):
        shift = tap - before
        first = max(0, -(shift // stride))  # the outputs whose tap lies inside
        num = min(num_out, (size - 1 - shift) // stride + 1) - first
        if shift == 0 or num <= 0:
            continue
        start = first * stride + shift
        places[axis] = slice(start, start + (num - 1) * stride + 1, stride)
        part = out.narrow(axis, first, num)
        torch.maximum(part, x[tuple(places)], out=part)
    return out


def triple(value: int | Triple) -> Triple:
    return (value, value, value) if isinstance(value, int) else value


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
    return torch.channels_last_3d if channels_last else torch.contiguous_format
