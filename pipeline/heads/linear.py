"""The linear probe: one linear layer on each clip, its scores averaged over a video's clips.

It knows nothing of time. "Single-frame works well, always try this first": what a sequence model adds is what it
scores beyond this.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from schemas.config import LinearHead


class LinearProbe(SequenceHead):
    """The multi-clip test as a head: clip scores are averaged before the softmax, in training and in testing.

    Legend: N videos, T clips, D feature dimensions, K classes.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores of each clip (N, T, K); zero in the padding."""
        present = mask[:, :, None]  # (N, T, 1)
        x = torch.where(present, x, 0.0)  # (N, T, D) padding may hold anything
        scores = self.classify(x)  # (N, T, K)
        return torch.where(present, scores, 0.0)  # (N, T, K) without the bias of padded steps

    def loss(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy (N,) of the averaged clip scores."""
        return F.cross_entropy(_mean_over_clips(scores, mask), labels, reduction="none")  # (N,)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Softmax (N, K) of the averaged clip scores."""
        return F.softmax(_mean_over_clips(scores, mask), dim=-1)  # (N, K)


def _mean_over_clips(scores: Tensor, mask: Tensor) -> Tensor:
    num_clips = mask.sum(dim=1, keepdim=True)  # (N, 1)
    return scores.sum(dim=1) / num_clips  # (N, T, K) -> (N, K)


@register("linear")
def build_linear(settings: LinearHead, blocks: tuple[int, ...], num_classes: int) -> LinearProbe:
    return LinearProbe(sum(blocks), num_classes)
