"""Dropout by numbers that are handed in."""

import pytest
import torch

from pipeline.heads.dropout import keep_factors


def test_noise_below_the_rate_drops() -> None:
    assert keep_factors(torch.tensor([[0.0, 0.25, 0.2499, 0.99]]), 0.25).tolist() == [
        [0, pytest.approx(4 / 3), 0, pytest.approx(4 / 3)]
    ]


def test_the_expected_activation_stays() -> None:
    factors = keep_factors(torch.rand(400, 50, generator=torch.Generator().manual_seed(3)), 0.25)
    assert factors.mean().item() == pytest.approx(1, abs=0.03)
    assert keep_factors(torch.rand(2, 3), 0.0).tolist() == [[1.0] * 3] * 2
