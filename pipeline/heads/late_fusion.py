"""Late fusion of streams (Simonyan and Zisserman, "Two-Stream Convolutional Networks"): a branch for each product.

Branches do not know of each other: each has its own loss, and the head's loss is their sum. (The training loop bounds
the norm of all gradients together, so a branch with long ones shortens the others' steps.) Only their answers meet:

average: the mean of the branches' class probabilities.
learned: log-linear: for single labels a softmax over classes of the sum over streams of w · log p, plus a bias for each
         class; for several labels a sigmoid of the sum of w · logit p, plus a bias. It begins with w = 1 and no bias:
         the product rule, right for streams whose errors are independent. Where one tells classes 0 1 from 2 3 and the
         other 0 2 from 1 3, both must agree: of that a mean is never surer than half. Training turns down noise, and
         what is said twice. It learns on the branches' answers as they stand: no gradient of the fusion reaches one.
         These are their answers on training videos, so a branch that has learned its videos by heart is trusted too
         much; `average` has nothing to overfit, and either may then be worse than the best stream alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from pipeline.heads.gru import GRUClassifier
from pipeline.heads.linear import LinearProbe
from pipeline.heads.lstm import LSTMClassifier
from pipeline.heads.mean_pool import MeanPoolClassifier
from pipeline.heads.objectives import Labels
from schemas.heads import LateFusionHead

SMALLEST = 1e-6  # probabilities count as no smaller in a learned fusion, so that no branch can veto a class


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
        self.fuse = LogLinear(len(blocks), num_classes, labels=self.objective.labels) if fusion == "learned" else None

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores of all branches, (S, N, K) or (S, N, T, K)."""
        streams = x.split(self.blocks, dim=-1)  # S of (N, T, D_s)
        noises = [None] * len(streams) if noise is None else noise.split([b.num_noise for b in self.branches], dim=-1)
        return torch.stack([b(s, mask, n) for b, s, n in zip(self.branches, streams, noises, strict=True)])

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The sum of the branches' losses (N,), and of a learned fusion's."""
        losses = torch.stack([self.objective.loss(branch, targets, mask) for branch in scores]).sum(dim=0)  # (N,)
        if self.fuse is None:
            return losses
        fused = self.fuse(self._logs(scores.detach(), mask))  # (N, K)
        return losses + self.objective.loss(fused, targets, mask)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Fused probabilities (N, K)."""
        if self.fuse is None:
            return self._answers(scores, mask).mean(dim=0)
        return self.objective.decode(self.fuse(self._logs(scores, mask)), mask)

    def _answers(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The branches' probabilities (S, N, K)."""
        return torch.stack([self.objective.decode(branch, mask) for branch in scores])

    def _logs(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The logarithms of the branches' probabilities, or (several labels) of their odds: (S, N, K)."""
        answers = self._answers(scores, mask)
        return answers.clamp_min(SMALLEST).log() if self.objective.labels == "single" else answers.logit(eps=SMALLEST)


class LogLinear(nn.Module):
    """A weighted sum of the streams' logarithms. Legend as above.

    Several labels are a question each, so their weights are of each stream and class. Classes of which one is right
    share a stream's weight: on made-up data, weights of their own gained a point or two of top-1 where streams know
    different classes, and lost three to nine where classes are many and videos few.
    """

    def __init__(self, num_streams: int, num_classes: int, *, labels: Labels) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_streams, 1 if labels == "single" else num_classes))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, logs: Tensor) -> Tensor:
        """Scores (N, K) of logs (S, N, K)."""
        return (self.weight[:, None] * logs).sum(dim=0) + self.bias


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
