"""Gated recurrent units over the clips of a video (Cho et al. 2014): the LSTM head with a quarter fewer weights."""

from __future__ import annotations

from torch import nn

from pipeline.heads import register
from pipeline.heads.recurrent import RecurrentClassifier
from schemas.heads import GRUHead


class GRUClassifier(RecurrentClassifier):
    """Layers of gated recurrent units."""

    @staticmethod
    def make_layer(size: int, hidden: int) -> nn.GRU:
        return nn.GRU(size, hidden, batch_first=True)


@register("gru")
def build_gru(settings: GRUHead, blocks: tuple[int, ...], num_classes: int) -> GRUClassifier:
    return GRUClassifier(
        sum(blocks),
        num_classes,
        hidden=settings.hidden,
        layers=settings.layers,
        dropout=settings.dropout,
        output=settings.output,
        labels=settings.labels,
    )
