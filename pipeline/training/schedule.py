"""The learning rate over the epochs: constant within each, so that an interrupted epoch goes on as it began."""

from __future__ import annotations

import math

from schemas.heads import HeadBase

STEPS_AT = (0.6, 0.85)  # share of the epochs after which `step` divides the rate by ten


def learning_rate(settings: HeadBase, epoch: int) -> float:
    """The rate of an epoch (from 0): up to lr over the warm-up, then as `settings.schedule` says.

    cosine: half a cosine, lr in the first epoch after the warm-up, near 0 in the last.
    """
    warmup = settings.warmup_epochs
    if epoch < warmup:
        return settings.lr * (epoch + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return settings.lr
    done = (epoch - warmup) / (settings.epochs - warmup)
    if settings.schedule == "step":
        return float(settings.lr * 0.1 ** sum(done >= at for at in STEPS_AT))
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))
