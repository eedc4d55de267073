"""LRCN's LSTM over the clips of a video in time order (Donahue et al., "Long-term Recurrent Convolutional Networks").

many-to-one:  the state after a video's last clip is classified.
many-to-many: the state after each clip is classified. In training each clip of a video weighs the same (LRCN; not
              the gain rising from 0 to 1 of "Beyond Short Snippets"), and each video weighs the same whatever its
              length. At test the softmax is averaged over the clips.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import SequenceHead, register
from schemas.config import LSTMHead


class LSTMClassifier(SequenceHead):
    """Stacked LSTM layers with dropout on the output of each, then a linear layer.

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
    ) -> None:
        super().__init__()
        sizes = [dim] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList([nn.LSTM(size, hidden, batch_first=True) for size in sizes])
        self.classify = nn.Linear(hidden, num_classes)
        self.hidden = hidden
        self.dropout = dropout
        self.output = output
        self.num_noise = layers * hidden if dropout > 0 else 0
        with torch.no_grad():
            for layer in self.layers:
                # gates are stored in, forget, cell, out; a forget bias of 1 lets early clips reach the last step
                layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = 1.0

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
        keep = (u >= self.dropout).to(h.dtype) / (1 - self.dropout)  # (N, H)
        return h * keep[:, None, :]  # (N, T, H)

    def loss(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy (N,): of the last step, or the mean over a video's steps."""
        if self.output == "many-to-one":
            return F.cross_entropy(scores, labels, reduction="none")  # (N,)
        per_class = scores.transpose(1, 2)  # (N, K, T)
        targets = labels[:, None].expand(mask.shape)  # (N, T)
        losses = F.cross_entropy(per_class, targets, reduction="none")  # (N, T)
        return torch.where(mask, losses, 0.0).sum(dim=1) / mask.sum(dim=1)  # (N,)

    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Softmax (N, K): of the last step, or averaged over a video's steps."""
        probabilities = F.softmax(scores, dim=-1)  # (N, K) or (N, T, K)
        if self.output == "many-to-one":
            return probabilities  # (N, K)
        present = torch.where(mask[:, :, None], probabilities, 0.0)  # (N, T, K)
        return present.sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (N, K)


@register("lstm")
def build_lstm(settings: LSTMHead, blocks: tuple[int, ...], num_classes: int) -> LSTMClassifier:
    return LSTMClassifier(
        sum(blocks),
        num_classes,
        hidden=settings.hidden,
        layers=settings.layers,
        dropout=settings.dropout,
        output=settings.output,
    )
