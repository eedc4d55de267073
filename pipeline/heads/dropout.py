"""Dropout by numbers handed in: a resumed run, or one on several workers, drops what an undisturbed one does."""

from __future__ import annotations

from torch import Tensor


def keep_factors(noise: Tensor, rate: float) -> Tensor:
    """What to multiply activations with, in the shape of `noise` (uniform in [0, 1)): 0, or 1 / (1 - rate)."""
    return (noise >= rate).to(noise.dtype) / (1 - rate)
