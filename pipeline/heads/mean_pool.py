"""Two layers on the mean over a video's clips: more than a linear probe can see, and still nothing of their order."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from pipeline.heads.dropout import keep_factors
from pipeline.heads.objectives import Labels, Objective, mean_over_clips
from schemas.heads import MeanPoolHead


class MeanPoolClassifier(SequenceHead):
    """Mean, linear, ReLU, dropout, linear.

    Legend: N videos, T clips, D feature dimensions, H hidden units, K classes.
    """

    def __init__(self, dim: int, num_classes: int, *, hidden: int, dropout: float, labels: Labels) -> None:
        assert labels != "dense", "a mean over clips has no answer for each clip"
        super().__init__(Objective(labels))
        self.hide = nn.Linear(dim, hidden)
        self.classify = nn.Linear(hidden, num_classes)
        self.dropout = dropout
        self.num_noise = hidden if dropout > 0 else 0

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores (N, K)."""
        h = F.relu(self.hide(mean_over_clips(x, mask)))  # (N, H) padding may hold anything
        if noise is not None and self.dropout > 0:
            h = h * keep_factors(noise, self.dropout)  # (N, H)
        return self.classify(h)  # (N, K)


@register("mean_pool")
def build_mean_pool(settings: MeanPoolHead, blocks: tuple[int, ...], num_classes: int) -> MeanPoolClassifier:
    return MeanPoolClassifier(
        sum(blocks), num_classes, hidden=settings.hidden, dropout=settings.dropout, labels=settings.labels
    )
