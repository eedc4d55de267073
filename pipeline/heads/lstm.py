"""LRCN's LSTM over the clips of a video (Donahue et al., "Long-term Recurrent Convolutional Networks")."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.heads import register
from pipeline.heads.recurrent import RecurrentClassifier
from schemas.heads import LSTMHead


class LSTMClassifier(RecurrentClassifier):
    """Layers of long short-term memory whose forget gates start open."""

    @staticmethod
    def make_layer(size: int, hidden: int) -> nn.LSTM:
        layer = nn.LSTM(size, hidden, batch_first=True)
        with torch.no_grad():
            # gates are stored in, forget, cell, out; a forget bias of 1 lets early clips reach the last step
            layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = 1.0
        return layer


@register("lstm")
def build_lstm(settings: LSTMHead, blocks: tuple[int, ...], num_classes: int) -> LSTMClassifier:
    return LSTMClassifier(
        sum(blocks),
        num_classes,
        hidden=settings.hidden,
        layers=settings.layers,
        dropout=settings.dropout,
        output=settings.output,
        labels=settings.labels,
    )
