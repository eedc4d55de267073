"""Late fusion of streams (Simonyan and Zisserman, "Two-Stream Convolutional Networks"): a branch for each product.

Branches do not know of each other: each has its own loss, and the head's loss is their sum. (The training loop bounds
the norm of all gradients together, so a branch with long ones shortens the others' steps.) Only their answers meet:

average: the mean of the branches' class probabilities.
learned: their mean with a weight for each stream and class (a softmax over the streams, equal at the start), trained
         on the branches' answers as they stand: no gradient of the fusion reaches a branch. The answers are those on
         training videos, so a branch that overfits is trusted too much; `average` has nothing to overfit.
         Weights choose between streams and can't say "both must agree": where one stream tells classes 0 1 from 2 3 and
         the other 0 2 from 1 3, `average` is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from pipeline.heads.gru import GRUClassifier
from pipeline.heads.linear import LinearProbe
from pipeline.heads.lstm import LSTMClassifier
from pipeline.heads.mean_pool import MeanPoolClassifier
from schemas.heads import LateFusionHead

SMALLEST = 1e-12  # probability whose logarithm is still taken


class LateFusion(SequenceHead):
    """Legend: S streams, N videos, T clips, D feature dimensions of all streams, K classes."""

    def __init__(
        self,
        branches: Sequence[SequenceHead],
        blocks: tuple[int, ...],
        num_classes: int,
        *,
        fusion: Literal["average", "learned"],
    ) -> None:
        super().__init__(branches[0].objective)
        assert self.objective.labels != "dense", "late fusion answers for whole videos"
        self.branches = nn.ModuleList(branches)
        self.blocks = blocks
        self.num_noise = sum(branch.num_noise for branch in branches)
        self.weigh = nn.Parameter(torch.zeros(len(blocks), num_classes)) if fusion == "learned" else None

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores of all branches, (S, N, K) or (S, N, T, K)."""
        streams = x.split(self.blocks, dim=-1)  # S of (N, T, D_s)
        noises = [None] * len(streams) if noise is None else noise.split([b.num_noise for b in self.branches], dim=-1)
        return torch.stack([b(s, mask, n) for b, s, n in zip(self.branches, streams, noises, strict=True)])

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The sum of the branches' losses (N,), and of that of learned weights."""
        losses = torch.stack([self.objective.loss(branch, targets, mask) for branch in scores]).sum(dim=0)  # (N,)
        return losses if self.weigh is None else losses + self._loss_of_weights(scores.detach(), targets, mask)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Fused probabilities (N, K)."""
        answers = torch.stack([self.objective.decode(branch, mask) for branch in scores])  # (S, N, K)
        if self.weigh is None:
            return answers.mean(dim=0)  # (N, K)
        fused = (F.softmax(self.weigh, dim=0)[:, None] * answers).sum(dim=0)  # (N, K)
        if self.objective.labels == "single":  # weights differ from class to class, so they need not sum to one
            fused = fused / fused.sum(dim=-1, keepdim=True)
        return fused

    def _loss_of_weights(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        fused = self.decode(scores, mask)  # (N, K)
        if self.objective.labels == "single":
            return F.nll_loss(fused.clamp_min(SMALLEST).log(), targets, reduction="none")  # (N,)
        fused = fused.clamp(SMALLEST, 1.0)  # sums of weights are one up to rounding
        return F.binary_cross_entropy(fused, targets, reduction="none").mean(dim=-1)  # (N,)


@register("late_fusion")
def build_late_fusion(settings: LateFusionHead, blocks: tuple[int, ...], num_classes: int) -> LateFusion:
    branches = [_branch(settings, dim, num_classes) for dim in blocks]
    return LateFusion(branches, blocks, num_classes, fusion=settings.fusion)


def _branch(settings: LateFusionHead, dim: int, num_classes: int) -> SequenceHead:
    labels, hidden, dropout = settings.labels, settings.hidden, settings.dropout
    if settings.branch == "linear":
        return LinearProbe(dim, num_classes, labels=labels)
    if settings.branch == "mean_pool":
        return MeanPoolClassifier(dim, num_classes, hidden=hidden, dropout=dropout, labels=labels)
    recurrent = LSTMClassifier if settings.branch == "lstm" else GRUClassifier
    return recurrent(dim, num_classes, hidden=hidden, layers=1, dropout=dropout, output="many-to-one", labels=labels)
