"""A convolution with batch norm against its definition, folding against what is folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from brute_force import brute_conv, numbers
from torch import nn

from pipeline.backbones.conv_bn import ConvBN, fold_bn
from pipeline.backbones.same_padding import max_pool_same, pad_same, triple

KERNELS = (1, 2, 3, 7)
STRIDES = (1, 2)


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
