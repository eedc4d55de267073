"""What is the LSTM's own; the rest is in test_recurrent.py."""

import torch

from pipeline.heads import build
from pipeline.heads.lstm import LSTMClassifier
from schemas.heads import LSTMHead


def test_forget_gates_start_open() -> None:
    head = build(LSTMHead(kind="lstm", features=("c3d",), hidden=6, layers=2), blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, LSTMClassifier)
    for layer in head.layers:
        assert isinstance(layer, torch.nn.LSTM)
        bias = layer.get_parameter("bias_ih_l0").chunk(4)
        assert (bias[1] == 1).all()
        assert not (bias[0] == 1).any()
