"""The linear probe: one linear layer on each clip, its scores averaged over a video's clips.

It knows nothing of time. "Single-frame works well, always try this first": what a sequence model adds is what it
scores beyond this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from pipeline.heads.objectives import Labels, Objective
from schemas.heads import LinearHead


class LinearProbe(SequenceHead):
    """The multi-clip test as a head: clip scores are averaged before the softmax, in training and in testing.

    Legend: N videos, T clips, D feature dimensions, K classes.
    """

    def __init__(self, dim: int, num_classes: int, *, labels: Labels) -> None:
        super().__init__(Objective(labels, average="scores"))
        self.classify = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores of each clip (N, T, K); zero in the padding."""
        present = mask[:, :, None]  # (N, T, 1)
        x = torch.where(present, x, 0.0)  # (N, T, D) padding may hold anything
        scores = self.classify(x)  # (N, T, K)
        return torch.where(present, scores, 0.0)  # (N, T, K) without the bias of padded steps


@register("linear")
def build_linear(settings: LinearHead, blocks: tuple[int, ...], num_classes: int) -> LinearProbe:
    return LinearProbe(sum(blocks), num_classes, labels=settings.labels)
