"""SAME padding against its definition, max pooling against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from brute_force import brute_max, numbers, windows

from pipeline.backbones import same_padding as pooling
from pipeline.backbones.same_padding import max_pool_same, pad_same, same_padding, triple

KERNELS = (1, 2, 3, 7)
STRIDES = (1, 2)
SIZES = (1, 2, 5, 8)


@pytest.mark.parametrize(("kernel", "stride", "size"), [*itertools.product(KERNELS, STRIDES, SIZES)])
def test_padding_is_tensorflow_s_along_each_side(kernel: int, stride: int, size: int) -> None:
    before, after = same_padding((size, size, size), triple(kernel), triple(stride))[:2]
    expected = windows(size, kernel, stride)
    assert -before == expected[0][0]
    assert max(expected[-1][1] - size, 0) == after
    assert after - before in (0, 1), "the odd one goes after"


def test_padding_is_in_the_order_of_f_pad() -> None:
    assert same_padding((1, 4, 9), (1, 2, 7), (1, 1, 2)) == (3, 3, 0, 1, 0, 0)  # W, H, T
    x = numbers(1, 2, 3, 4, 9)
    assert pad_same(x, (1, 2, 7), (1, 1, 2)).shape == (1, 2, 3, 5, 15)
    assert pad_same(x, (1, 1, 1), (1, 1, 1)) is x


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 5, 4), (6, 3, 7), (2, 8, 9)])
@pytest.mark.parametrize("many_taps", [1, pooling.MANY_TAPS, 1 << 30], ids=["by axis", "as it is", "torch's own"])
def test_max_pooling_is_the_maximum_of_what_lies_inside(
    kernel: int, stride: int, size: tuple[int, int, int], many_taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "MANY_TAPS", many_taps)
    x = numbers(2, 1, *size) - 9  # all below 0: a zero that was padded would win
    ours = max_pool_same(x, kernel, stride).numpy()
    for clip in range(2):
        np.testing.assert_array_equal(ours[clip, 0], brute_max(x[clip, 0].numpy(), triple(kernel), triple(stride)))


@pytest.mark.parametrize(("kernel", "stride"), [((1, 3, 3), (1, 2, 2)), ((2, 3, 1), (2, 1, 2)), ((3, 2, 7), (1, 2, 2))])
@pytest.mark.parametrize("many_taps", [1, 1 << 30], ids=["by axis", "torch's own"])
def test_max_pooling_by_side(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], many_taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "MANY_TAPS", many_taps)
    for size in ((4, 7, 8), (5, 6, 9)):
        x = numbers(1, 1, *size) - 9
        np.testing.assert_array_equal(
            max_pool_same(x, kernel, stride)[0, 0].numpy(), brute_max(x[0, 0].numpy(), kernel, stride)
        )


@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_max_pooling_has_a_gradient(kernel: int) -> None:
    """The same values whether it is learnt through or not; the gradient goes to the places of the maxima."""
    x = numbers(1, 2, 4, 9, 8)
    plain = max_pool_same(x, kernel, 2)
    learnt = max_pool_same(x.clone().requires_grad_(True), kernel, 2)
    assert learnt.equal(plain)
    leaf = x.clone().requires_grad_(True)
    max_pool_same(leaf, kernel, 2).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.sum() == plain.numel()
    assert set(x[leaf.grad > 0].tolist()) == set(plain.flatten().tolist())
