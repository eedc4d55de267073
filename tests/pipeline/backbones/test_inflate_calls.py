"""Each call on maps gives, at every frame of a still video, what the 2D call gives of the image."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.inflate import inflate

MAPS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {  # N×8×12×10 -> a map
    "conv2d": lambda net, x: F.conv2d(x, net.conv.weight, net.conv.bias, stride=2, padding=(2, 1), groups=2),
    "conv2d, same": lambda net, x: F.conv2d(x, net.even.weight, None, 1, "same", 2, 1),
    "conv2d, valid": lambda net, x: torch.conv2d(x, net.even.weight, padding="valid"),
    "max_pool2d": lambda net, x: F.max_pool2d(x, (3, 2), padding=(1, 0), ceil_mode=True, stride=2),
    "torch.max_pool2d": lambda net, x: torch.max_pool2d(x, 2),
    "avg_pool2d": lambda net, x: F.avg_pool2d(x, 3, count_include_pad=False, padding=1, ceil_mode=True),
    "avg_pool2d of small maps": lambda net, x: F.avg_pool2d(F.adaptive_avg_pool2d(x, 2), 3, 1, 1),
    "named inputs": lambda net, x: torch.cat(tensors=[F.relu(input=x), F.max_pool2d(input=x, kernel_size=1)], dim=1),
    "adaptive_avg_pool2d": lambda net, x: F.adaptive_avg_pool2d(x, (5, 3)),
    "adaptive_max_pool2d": lambda net, x: F.adaptive_max_pool2d(x, 5),
    "pad": lambda net, x: F.pad(x, (1, 2, 3, 4), value=7.0),
    "pad W": lambda net, x: F.pad(x, (1, 2)),
    "pad channels": lambda net, x: F.pad(x[:, :, ::2, 1::3], (0, 0, 1, 0, 3, 4)),
    "pad, reflect": lambda net, x: F.pad(x, (1, 2, 3, 4), mode="reflect"),
    "pad by size": lambda net, x: F.pad(x, (0, -x.shape[-1] % 4, 0, -x.size(2) % 7)),
    "interpolate": lambda net, x: F.interpolate(x, size=(20, 9), mode="bilinear", align_corners=False),
    "interpolate by size": lambda net, x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:], mode="bicubic"),
    "pixel_shuffle": lambda net, x: F.pixel_shuffle(x, 2),
    "dropout2d": lambda net, x: F.dropout2d(x, 0.5, net.training),
    "arithmetic": lambda net, x: (2 * x - x / 3 + x**2).clamp(-1, 1),
    "in place": lambda net, x: operator.iadd(x.clone(), 1).relu_(),
    "a parameter": lambda net, x: x * net.scale + net.shift,
    "cat": lambda net, x: torch.cat([x, F.relu(x)], dim=1),
    "cat with a constant": lambda net, x: torch.cat([x, net.scale.expand(2, 8, 12, 10)], 1),
    "chunk": lambda net, x: torch.sub(*[x.chunk(2, 1)[i] for i in range(2)]),
    "split": lambda net, x: x.split([3, 5], dim=1)[1],
    "softmax": lambda net, x: F.softmax(x, 1) + x.softmax(dim=-1),
    "normalize": lambda net, x: F.normalize(x),
    "glu": lambda net, x: F.glu(x, 1),
    "channels last and back": lambda net, x: F.gelu(net.fc(net.norm(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2) + x,
    "layer_norm": lambda net, x: torch.permute(F.layer_norm(torch.permute(x, (0, 2, 3, 1)), (8,)), [0, 3, 1, 2]),
    "mean over places, kept": lambda net, x: x - x.mean((2, 3), keepdim=True),
    "mean over channels, kept": lambda net, x: x * torch.sigmoid(x.mean(1, keepdim=True) + x.amax(1, keepdim=True)),
    "sum over H, kept": lambda net, x: x + torch.sum(x, -2, True),
    "mean over places, back": lambda net, x: x * x.mean([2, 3])[:, :, None, None],
    "a gate from vectors": lambda net, x: x * net.fc(x.flatten(2).mean(-1)).view(2, 8, 1, 1).expand_as(x),
    "vectors to a convolution": lambda net, x: net.even(x.amax((2, 3)).view(-1, 8, 1, 1).expand(-1, -1, 6, 6)) + 0,
    "expand": lambda net, x: F.adaptive_avg_pool2d(x, 1).expand(-1, -1, x.shape[2], 10) + x,
    "expand by sizes": lambda net, x: F.adaptive_avg_pool2d(x, 1).expand(x.size()),
    "dim": lambda net, x: x * x.dim() + x.ndim,
    "unpacked sizes": lambda net, x: x * x.shape[2] + x.size(-1) + x.size()[1],
    "constants of its dtype": lambda net, x: x + torch.ones(8, 1, 1, dtype=x.dtype, device=x.device),
    "batch_norm": lambda net, x: F.batch_norm(x, net.mean, net.mean.abs() + 1, eps=1e-3),
    "group_norm": lambda net, x: F.group_norm(x, 4),
}

VECTORS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {  # N×8×12×10 -> a vector
    "flatten": lambda net, x: torch.flatten(F.adaptive_avg_pool2d(x, 3), 1),
    "flatten places": lambda net, x: x.flatten(2),
    "view": lambda net, x: x.view(x.size(0), -1),
    "view of three": lambda net, x: x.view(2, 8, -1).mean(-1),
    "reshape": lambda net, x: x.reshape((x.shape[0], -1)),
    "squeeze": lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "mean": lambda net, x: x.mean((-2, -1)),
    "mean, named": lambda net, x: torch.mean(x, dim=[3, 2]),
    "amax": lambda net, x: net.fc(x.amax((2, 3))),
}


class Net(nn.Module):
    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3)
        self.even = nn.Conv2d(8, 6, 4, bias=False)
        self.fc = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))
        self.shift = nn.Parameter(torch.rand(8, 1, 1))
        self.register_buffer("mean", torch.rand(8))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("num_frames", [1, 4])
@torch.no_grad()
def test_maps(name: str, num_frames: int) -> None:
    net, image = opened(MAPS[name])
    expected = net(image).unsqueeze(2)
    found = inflate(net)(image.unsqueeze(2).expand(-1, -1, num_frames, -1, -1))
    assert found.ndim == 5
    assert found.shape[2] == (1 if name == "vectors to a convolution" else num_frames)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", VECTORS)
@torch.no_grad()
def test_vectors(name: str) -> None:
    net, image = opened(VECTORS[name])
    found = inflate(net)(image.unsqueeze(2).expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(found, net(image), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_vectors_are_means_over_time() -> None:
    clip = torch.randn(2, 8, 3, 12, 10, dtype=torch.float64)
    net = Net(lambda net, x: F.max_pool2d(x, 2).mean([2, 3])).double()
    expected = torch.stack([net(frame) for frame in clip.unbind(2)]).mean(0)
    torch.testing.assert_close(inflate(net)(clip), expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_an_inflated_functional_weight_keeps_its_name() -> None:
    inflated = inflate(opened(MAPS["conv2d"])[0])
    assert inflated.get_parameter("conv.weight").shape == (6, 4, 3, 3, 3)


def opened(call: Callable[[nn.Module, Tensor], Tensor]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    return Net(call).double().eval(), torch.randn(2, 8, 12, 10, dtype=torch.float64)
