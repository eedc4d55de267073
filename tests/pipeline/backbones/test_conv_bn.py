"""SAME padding against its definition, max pooling against brute force, folding against what is folded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones import conv_bn
from pipeline.backbones.conv_bn import ConvBN, fold_bn, max_pool_same, pad_same, same_padding, triple

KERNELS = (1, 2, 3, 7)
STRIDES = (1, 2)
SIZES = (1, 2, 5, 8)


def windows(size: int, kernel: int, stride: int) -> list[tuple[int, int]]:
    """SAME along one side as TensorFlow's documentation defines it: [start, end) of each window, outside included.

    ceil(size / stride) windows; together they need max((outputs - 1) * stride + kernel - size, 0) more places, half of
    which, rounded down, are put before the first.
    """
    num_outputs = int(np.ceil(size / stride))
    extra = max(kernel - (size % stride or stride), 0)
    starts = [place * stride - extra // 2 for place in range(num_outputs)]
    return [(start, start + kernel) for start in starts]


def brute_max(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Max over the part of each window that lies inside. T×H×W."""
    sides = [windows(n, k, s) for n, k, s in zip(x.shape, kernel, stride, strict=True)]
    out = np.empty([len(side) for side in sides], x.dtype)
    for place in np.ndindex(*out.shape):
        inside = tuple(slice(max(0, side[at][0]), side[at][1]) for side, at in zip(sides, place, strict=True))
        out[place] = x[inside].max()
    return out


def brute_conv(x: np.ndarray, weight: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    """C×T×H×W and O×C×k×k×k in double -> O×t×h×w, zeros outside."""
    kernel = weight.shape[2:]
    sides = [windows(n, k, s) for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    margin = 8
    padded = np.pad(x.astype(np.float64), [(0, 0), *[(margin, margin)] * 3])
    out = np.empty([len(weight), *(len(side) for side in sides)])
    for place in np.ndindex(*out.shape[1:]):
        at = [side[index][0] + margin for side, index in zip(sides, place, strict=True)]
        window = padded[:, at[0] : at[0] + kernel[0], at[1] : at[1] + kernel[1], at[2] : at[2] + kernel[2]]
        out[:, *place] = np.tensordot(weight, window, axes=4)
    return out


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# ---------------------------------------------------------------- padding


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
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", [(3, 6, 5), (4, 5, 8)])
def test_convolution_is_same_at_odd_and_even_sizes(kernel: int, stride: int, size: tuple[int, int, int]) -> None:
    layer = identity_norm(ConvBN(2, 3, kernel, stride=stride, relu=False))
    x = numbers(1, 2, *size)
    with torch.inference_mode():
        ours = layer(x)[0].numpy()
    expected = brute_conv(x[0].numpy(), layer.conv.weight.detach().double().numpy(), triple(stride))
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_kernels_and_strides_of_their_own_a_side() -> None:
    layer = identity_norm(ConvBN(2, 3, (1, 3, 2), stride=(2, 1, 2), relu=False))
    x = numbers(1, 2, 5, 4, 7)
    expected = brute_conv(x[0].numpy(), layer.conv.weight.detach().double().numpy(), (2, 1, 2))
    with torch.inference_mode():
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, atol=2e-5)


def test_padding_by_number_is_torch_s() -> None:
    layer = identity_norm(ConvBN(2, 3, (3, 7, 7), stride=2, padding=(1, 3, 3), relu=False))
    x = numbers(1, 2, 5, 8, 9)
    with torch.inference_mode():
        assert torch.equal(layer.conv(x), F.conv3d(x, layer.conv.weight, stride=2, padding=(1, 3, 3)))
        assert layer(x).shape == (1, 3, 3, 4, 5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 5, 4), (6, 3, 7), (2, 8, 9)])
@pytest.mark.parametrize("many_taps", [1, conv_bn.MANY_TAPS, 1 << 30], ids=["by axis", "as it is", "torch's own"])
def test_max_pooling_is_the_maximum_of_what_lies_inside(
    kernel: int, stride: int, size: tuple[int, int, int], many_taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv_bn, "MANY_TAPS", many_taps)
    x = numbers(2, 1, *size) - 9  # all below 0: a zero that was padded would win
    ours = max_pool_same(x, kernel, stride).numpy()
    for clip in range(2):
        np.testing.assert_array_equal(ours[clip, 0], brute_max(x[clip, 0].numpy(), triple(kernel), triple(stride)))


@pytest.mark.parametrize(("kernel", "stride"), [((1, 3, 3), (1, 2, 2)), ((2, 3, 1), (2, 1, 2)), ((3, 2, 7), (1, 2, 2))])
@pytest.mark.parametrize("many_taps", [1, 1 << 30], ids=["by axis", "torch's own"])
def test_max_pooling_by_side(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], many_taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv_bn, "MANY_TAPS", many_taps)
    for size in ((4, 7, 8), (5, 6, 9)):
        x = numbers(1, 1, *size) - 9
        np.testing.assert_array_equal(
            max_pool_same(x, kernel, stride)[0, 0].numpy(), brute_max(x[0, 0].numpy(), kernel, stride)
        )


# ---------------------------------------------------------------- the layer


def identity_norm(layer: ConvBN) -> ConvBN:
    assert isinstance(layer.bn, nn.BatchNorm3d)
    layer.bn.eps = 0.0
    return layer.eval()


def with_statistics(layer: ConvBN) -> ConvBN:
    generator = torch.Generator().manual_seed(1)
    bn = layer.bn
    assert isinstance(bn, nn.BatchNorm3d)
    with torch.no_grad():
        for value in (bn.weight, bn.running_var):
            value.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
        for value in (bn.bias, bn.running_mean):
            value.normal_(0, 0.3, generator=generator)  # type: ignore[union-attr]
    return layer.eval().requires_grad_(False)


def test_convolution_then_batch_norm_then_relu() -> None:
    layer = with_statistics(ConvBN(2, 3, 1, eps=1e-3))
    bn, x = layer.bn, numbers(1, 2, 2, 3, 3)
    assert layer.conv.bias is None
    y = torch.einsum("oc,ncthw->nothw", layer.conv.weight[..., 0, 0, 0], x)
    of = [value.view(1, 3, 1, 1, 1) for value in (bn.running_mean, bn.running_var, bn.weight, bn.bias)]
    expected = (y - of[0]) / (of[1] + 1e-3).sqrt() * of[2] + of[3]
    torch.testing.assert_close(layer(x), expected.relu(), rtol=1e-5, atol=1e-6)
    assert (layer(x) == 0).any()
    assert sorted(layer.state_dict()) == [
        "bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight", "conv.weight"
    ]  # fmt: skip


def test_folding_changes_nothing() -> None:
    net = nn.Sequential(
        with_statistics(ConvBN(3, 8, 7, stride=2, eps=1e-3)),
        nn.Sequential(with_statistics(ConvBN(8, 6, 3)), with_statistics(ConvBN(6, 4, 1, relu=False))),
    )
    x = numbers(1, 3, 7, 12, 13)
    before = net(x)
    fold_bn(net)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in net.modules())
    assert all(module.bias is not None for module in net.modules() if isinstance(module, nn.Conv3d))
    after = net(x)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    fold_bn(net)
    assert torch.equal(net(x), after), "folding twice is folding once"


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (7, 2), (2, 2)])
def test_channels_last_stays_channels_last(kernel: int, stride: int) -> None:
    x = numbers(2, 16, 5, 6, 7)  # torch's fast convolutions start at about this size
    last = x.contiguous(memory_format=torch.channels_last_3d)
    layer = with_statistics(ConvBN(16, 16, kernel, stride=stride)).to(memory_format=torch.channels_last_3d)
    for one in (pad_same(last, triple(kernel), triple(stride)), max_pool_same(last, kernel, stride), layer(last)):
        assert one.is_contiguous(memory_format=torch.channels_last_3d)
    assert pad_same(x, triple(kernel), triple(stride)).is_contiguous()
    assert torch.equal(max_pool_same(last, kernel, stride), max_pool_same(x, kernel, stride))
