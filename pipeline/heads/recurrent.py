"""Recurrent layers over the clips of a video in time order: what the LSTM and the GRU head have in common.

many-to-one:  the state after a video's last clip is classified.
many-to-many: the state after each clip is classified. In training each clip of a video weighs the same (LRCN; not
              the gain rising from 0 to 1 of "Beyond Short Snippets"). At test the probabilities are averaged over
              the clips, or, where labels are dense, given for each.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.heads import SequenceHead
from pipeline.heads.dropout import keep_factors
from pipeline.heads.objectives import Labels, Objective


class RecurrentClassifier(SequenceHead):
    """Stacked recurrent layers with dropout on the output of each, then a linear layer.

    Legend: N videos, T clips (padded at the end), D feature dimensions, H hidden units, L layers, K classes.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        output: Literal["many-to-one", "many-to-many"],
        labels: Labels,
    ) -> None:
        super().__init__(Objective(labels, average="answers"))
        sizes = [dim] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList([self.make_layer(size, hidden) for size in sizes])
        self.classify = nn.Linear(hidden, num_classes)
        self.hidden = hidden
        self.dropout = dropout
        self.output = output
        self.num_noise = layers * hidden if dropout > 0 else 0

    @staticmethod
    @abstractmethod
    def make_layer(size: int, hidden: int) -> nn.RNNBase:
        """One layer, (N, T, size) -> (N, T, hidden)."""

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scores (N, K) of many-to-one, or (N, T, K) of many-to-many."""
        h = torch.where(mask[:, :, None], x, 0.0)  # (N, T, D) padding may hold anything
        for index, layer in enumerate(self.layers):
            h, _ = layer(h)  # (N, T, H) padding comes last, so it can't reach the steps before it
            h = self._drop(h, noise, index)  # (N, T, H)
        if self.output == "many-to-one":
            last = mask.sum(dim=1) - 1  # (N,) index of the last clip
            h = h[torch.arange(len(h), device=h.device), last]  # (N, H)
        return self.classify(h)  # (N, K) or (N, T, K)

    def _drop(self, h: Tensor, noise: Tensor | None, index: int) -> Tensor:
        """Drop the same units at all steps of a video (Gal and Ghahramani): no mask depends on the padding."""
        if noise is None or self.dropout == 0:
            return h
        u = noise[:, index * self.hidden : (index + 1) * self.hidden]  # (N, H) of (N, L H)
        return h * keep_factors(u, self.dropout)[:, None, :]  # (N, T, H)
