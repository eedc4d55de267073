"""Weights and clips that anyone can make again from a name and a shape: a golden file then needs no weights beside it.

    tensor_for("Conv3d_1a_7x7.conv3d.weight", (64, 3, 7, 7, 7))     # float32; the last part of the key says what it is
    clip_for("rgb", (1, 3, 16, 224, 224))                           # float32 in [-1, 1)

Scaled so that numbers of order one stay of order one through 60 layers, with batch statistics that are far from the
identity: a wrong eps, a missing gamma or a swapped branch moves the logits by far more than 1e-4.

Raw 32-bit words of PCG64 (whose stream NumPy promises never to change), seeded by the sha256 of the name.
"""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np

# The last batch norm of a residual branch: small, or 16 blocks that each add their own would reach 1e3.
BRANCH_END = re.compile(r"(conv3\.bn|bn3|norm_c|conv_out\.bn|norm_out)\.weight$")
# Of a non-local block: where it multiplies without a softmax, it grows with the third power of its input.
AFFINITY = re.compile(r"(theta|phi)(\.0)?\.conv\.weight$")
# Second moment that a batch norm adds on average: E[weight²] · E[1 / running_var] = 1.083 · 1.099, mean and bias.
NORM_GAIN = 1.2


def tensor_for(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter by its key in a state dict, or by its name in a TensorFlow checkpoint (`…/w`).

    Convolutions and linear layers are He-scaled, biases and means within ±0.17 (std 0.1), BN weight and variance
    U(0.5, 1.5); `num_batches_tracked` is an int64 of 0.
    """
    kind = re.split(r"[./]", key)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "Momentum":  # what TensorFlow's optimizer keeps beside a variable
        return np.zeros(shape, np.float32)
    if kind in ("bias", "b", "beta", "running_mean", "moving_mean"):
        return _uniform(key, shape, -0.1 * math.sqrt(3), 0.1 * math.sqrt(3))
    if kind in ("running_var", "moving_variance"):
        return _uniform(key, shape, 0.5, 1.5)
    if kind == "w":  # TensorFlow: [kt, kh, kw, in, out]
        return _he(key, shape, fan_in=math.prod(shape[:-1]))
    if kind != "weight":
        raise ValueError(f"{key!r}: no rule for the values of a {kind!r}")
    if len(shape) > 1:
        he = _he(key, shape, fan_in=math.prod(shape[1:]))
        return he * np.float32(2**-5) if AFFINITY.search(key) else he
    scale = 0.2 if BRANCH_END.search(key) else 1.0
    return _uniform(key, shape, 0.5 * scale, 1.5 * scale)


def clip_for(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An input clip, float32, uniform in [-1, 1)."""
    return _uniform(f"clip {name}", shape, -1.0, 1.0)


def _he(key: str, shape: tuple[int, ...], *, fan_in: int) -> np.ndarray:
    limit = math.sqrt(3) * math.sqrt(2 / NORM_GAIN / fan_in)
    return _uniform(key, shape, -limit, limit)


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    count = math.prod(shape)
    words = np.random.PCG64(seed).random_raw(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]
    unit = (words >> 8).astype(np.float32) * np.float32(2**-24)  # [0, 1), exact in float32
    return (unit * np.float32(high - low) + np.float32(low)).reshape(shape)
