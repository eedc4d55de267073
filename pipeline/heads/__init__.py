"""Heads: what is trained on stored features. One file per head, with its loss and its decode().

    head = build(settings, blocks=(4096,), num_classes=101, seed=0)
    scores = head(x, mask)                      # x: (N, T, D) float32, mask: (N, T) bool, True where a clip is
    loss = head.loss(scores, targets, mask)     # (N,): one per video, so that any split of a batch adds up
    probabilities = head.decode(scores, mask)   # (N, K)

A new head is one file here, named after its kind, and its `@register("<kind>")` line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pipeline.heads.objectives import Objective
from schemas.heads import HeadBase


class SequenceHead(nn.Module, ABC):
    """Gives classes to a sequence of clips: one a video, several a video, or several at each clip (its objective).

    Legend: N videos, T clips (padded to the longest), D feature dimensions, K classes.
    What stands in the padding never changes a score, not even nan.
    """

    num_noise: int = 0  # uniform numbers that one video needs for its dropout masks

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores of x (N, T, D) under mask (N, T): of videos (N, K), or of clips (N, T, K).

        `noise` (N, num_noise), uniform in [0, 1), switches dropout on. It is handed in, not drawn inside, so that
        a resumed run and a run on several workers drop the same activations as an undisturbed one.
        """

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The loss of each video (N,); for targets see pipeline/heads/objectives.py."""
        return self.objective.loss(scores, targets, mask)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Class probabilities (N, K) of each video."""
        return self.objective.decode(scores, mask)

    def decode_steps(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Class probabilities (N, T, K) of each clip, zero in the padding, from scores of clips."""
        return self.objective.decode_steps(scores, mask)


Builder = Callable[[Any, tuple[int, ...], int], nn.Module]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)

_BUILDERS: dict[str, Builder] = {}


def register(kind: str) -> Callable[[AnyBuilder], AnyBuilder]:
    """Enter a builder `(settings, blocks, num_classes) -> head` under the `kind` that configs use."""

    def enter(builder: AnyBuilder) -> AnyBuilder:
        assert kind not in _BUILDERS, f"two heads named {kind!r}"
        _BUILDERS[kind] = builder
        return builder

    return enter


def build(settings: HeadBase, *, blocks: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
    """A freshly initialised head of `num_classes` classes; equal seeds give equal weights.

    `blocks` are the dimensions of each feature product, in the order of the config; features have D = sum(blocks).
    Raises ValueError where no head has this kind.
    """
    kind: str = getattr(settings, "kind", "")
    if kind not in _BUILDERS:
        module = f"{__name__}.{kind}"
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # the head is there, but something that it imports is not
                raise
            raise ValueError(f"no head of kind {kind!r}: pipeline/heads has no {kind}.py") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[kind](settings, blocks, num_classes)
