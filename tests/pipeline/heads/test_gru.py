"""What is the GRU's own; the rest is in test_recurrent.py."""

import torch

from pipeline.heads import build
from pipeline.heads.gru import GRUClassifier
from schemas.heads import GRUHead


def test_it_follows_the_equations() -> None:
    head = build(GRUHead(kind="gru", features=("c3d",), hidden=6), blocks=(4,), num_classes=3, seed=1)
    assert isinstance(head, GRUClassifier)
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    w, b, u, c = (head.layers[0].get_parameter(name) for name in names)
    h = torch.zeros(6)
    for step in x[0]:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (w @ step + b).chunk(3), (u @ h + c).chunk(3)
        reset, update = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        h = (1 - update) * torch.tanh(n_x + reset * n_h) + update * h
    torch.testing.assert_close(head(x, torch.ones(1, 3, dtype=torch.bool))[0], head.classify(h))
