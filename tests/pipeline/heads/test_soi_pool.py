"""Pooling of segments: held against a loop over bins and steps that adds up overlaps."""

import pytest
import torch
from torch import Tensor

from pipeline.heads.soi_pool import soi_pool


def shares(span: Tensor, num_steps: int, *, bins: int, extent: float) -> Tensor:
    """What each step weighs in each bin (P, bins, T) float64, by the rule's own words."""
    weights = torch.zeros(len(span), bins, num_steps, dtype=torch.float64)
    for p, (start, end) in enumerate(span.tolist()):
        center, length = (start + end) / 2, (end - start) * extent
        for b in range(bins):
            low = center - length / 2 + length * b / bins
            high = center - length / 2 + length * (b + 1) / bins
            for t in range(num_steps):
                overlap = min(high, t + 0.5) - max(low, t - 0.5)
                weights[p, b, t] = max(overlap, 0) / (high - low)
    return weights


def random_spans(num: int, num_steps: int, seed: int) -> Tensor:
    """Spans that begin and end anywhere, also outside of the sequence."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(num, 2, generator=generator) * (num_steps + 6) - 3
    return torch.stack([ends.min(dim=1).values, ends.max(dim=1).values + 0.01], dim=1)


@pytest.mark.parametrize(("num_steps", "bins", "extent"), [(1, 4, 2.0), (2, 1, 1.0), (9, 8, 2.0), (30, 5, 1.5)])
def test_a_bin_is_the_mean_of_the_steps_by_their_overlap(num_steps: int, bins: int, extent: float) -> None:
    x = torch.randn(num_steps, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    span = random_spans(40, num_steps, seed=num_steps)
    weights = shares(span, num_steps, bins=bins, extent=extent)
    pooled = soi_pool(x, span, bins=bins, extent=extent)
    by_hand = (weights @ x.detach().double()).float()
    assert pooled.shape == (40, bins, 3)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, by_hand, rtol=1e-5, atol=1e-5)
    pull = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
    pooled.backward(pull)
    torch.testing.assert_close(x.grad, torch.einsum("pbt,pbc->tc", weights, pull.double()).float())


def test_whole_steps_are_found_in_whole_bins() -> None:
    x = torch.arange(10.0)[:, None]
    inside = soi_pool(x, torch.tensor([[2.5, 6.5]]), bins=4, extent=1.0)  # steps 3, 4, 5, 6
    assert inside.flatten().tolist() == [3, 4, 5, 6]
    widened = soi_pool(x, torch.tensor([[2.5, 6.5]]), bins=4, extent=2.0)  # steps 1 to 8, two a bin
    assert widened.flatten().tolist() == [1.5, 3.5, 5.5, 7.5]


def test_beyond_the_ends_there_is_nothing() -> None:
    x = torch.ones(4, 1)
    span = torch.tensor([[-0.5, 3.5], [-40.0, -30.0], [90.0, 91.0]])
    pooled = soi_pool(x, span, bins=4, extent=2.0)[..., 0]
    assert pooled.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_segment_inside_one_step_is_that_step() -> None:
    x = torch.tensor([[5.0], [7.0], [9.0]])
    assert (soi_pool(x, torch.tensor([[0.9, 1.1]]), bins=3, extent=2.0) == 7).all()


def test_long_sequences_lose_no_digits() -> None:
    x = torch.full((5000, 1), 1000.0)
    x[4990] = 1001.0
    pooled = soi_pool(x, torch.tensor([[4989.5, 4990.5]]), bins=2, extent=2.0)
    assert pooled.flatten().tolist() == pytest.approx([1000.5, 1000.5], abs=1e-4)
    narrow = soi_pool(x, torch.tensor([[4989.9, 4990.1]]), bins=2, extent=1.0)
    assert narrow.flatten().tolist() == pytest.approx([1001, 1001], abs=1e-3)


def test_no_segments() -> None:
    assert soi_pool(torch.ones(4, 2), torch.zeros(0, 2), bins=8, extent=2.0).shape == (0, 8, 2)
