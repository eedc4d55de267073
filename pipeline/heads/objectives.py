"""What the scores of a sequence head are held against, and what they say.

    labels                             targets               loss                                  probabilities
    single: one class a video          (N,) int64            softmax cross-entropy                 softmax
    multi:  any number a video         (N, K) float32        binary cross-entropy, mean over K     sigmoid
    dense:  any number at each clip    (N, T, K) float32     the same, mean over a video's clips   sigmoid

Legend: N videos, T clips (padded at the end), K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Labels = Literal["single", "multi", "dense"]


@dataclass(frozen=True, slots=True)
class Objective:
    """Loss and probabilities from scores: of whole videos (N, K), or of their clips (N, T, K).

    `average` says how clips make up a video. "scores": their mean score is one video's. "answers": each clip has a
    loss and probabilities of its own, and these are averaged. Every clip of a video weighs the same, and every video
    whatever its length.
    """

    labels: Labels = "single"
    average: Literal["scores", "answers"] = "answers"

    def loss(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """The loss of each video (N,). Dense targets count under `mask` (N, T); elsewhere they may hold anything."""
        if self.labels == "dense":
            targets = torch.where(mask[:, :, None], targets, 0.0)  # (N, T, K)
            return mean_over_clips(self._losses(scores, targets), mask)  # (N,)
        scores = self._of_videos(scores, mask)  # (N, K) or (N, T, K)
        if scores.ndim == 2:
            return self._losses(scores, targets)  # (N,)
        targets = targets[:, None].expand(*mask.shape, *targets.shape[1:])  # (N, T) or (N, T, K)
        return mean_over_clips(self._losses(scores, targets), mask)  # (N,)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Probabilities (N, K) of each video."""
        probabilities = self._probabilities(self._of_videos(scores, mask))  # (N, K) or (N, T, K)
        return probabilities if probabilities.ndim == 2 else mean_over_clips(probabilities, mask)  # (N, K)

    def decode_steps(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Probabilities (N, T, K) of each clip, zero in the padding. Scores must be of clips."""
        assert scores.ndim == 3, f"scores of whole videos, {tuple(scores.shape)}, say nothing about their clips"
        return torch.where(mask[:, :, None], self._probabilities(scores), 0.0)  # (N, T, K)

    def _of_videos(self, scores: Tensor, mask: Tensor) -> Tensor:
        return mean_over_clips(scores, mask) if scores.ndim == 3 and self.average == "scores" else scores

    def _losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        """(N,) or (N, T)."""
        if self.labels == "single":
            return F.cross_entropy(scores.movedim(-1, 1), targets, reduction="none")
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(dim=-1)

    def _probabilities(self, scores: Tensor) -> Tensor:
        return F.softmax(scores, dim=-1) if self.labels == "single" else torch.sigmoid(scores)


def mean_over_clips(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values (N, T) or (N, T, …) over the clips of each video: (N,) or (N, …)."""
    present = mask.reshape(*mask.shape, *(1 for _ in values.shape[2:]))  # (N, T, 1…)
    num_clips = mask.sum(dim=1).reshape(-1, *(1 for _ in values.shape[2:]))  # (N, 1…)
    return torch.where(present, values, 0.0).sum(dim=1) / num_clips
