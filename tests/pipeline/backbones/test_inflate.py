"""Whole nets inflated: on a video that stands still they give the 2D net's answer, at every frame."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.inflate import as_in_space, inflate
from schemas.errors import UsageError


class Vgg(nn.Module):
    """Convolutions with functional ReLUs and pools, then vectors of a fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 5, padding=2, bias=False)
        self.conv3 = nn.Conv2d(24, 32, (1, 7), padding="same")
        self.fc1 = nn.Linear(32 * 4 * 4, 20)
        self.fc2 = nn.Linear(20, 7)

    def maps(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x), inplace=True), 2)
        x = F.avg_pool2d(torch.relu(self.conv2(x)), 3, stride=2, padding=1)
        return F.leaky_relu(self.conv3(x), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_max_pool2d(self.maps(x), 4)
        x = x.view(x.size(0), -1)
        return self.fc2(F.dropout(F.relu(self.fc1(x)), training=self.training))


class VggMaps(Vgg):
    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)


class Residual(nn.Module):
    """A bottleneck with grouped and strided convolutions, squeeze-and-excitation and a projected shortcut."""

    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, 16, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, stride, padding=2, dilation=2, groups=4, bias=False, padding_mode="reflect")
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, num_out, 1, bias=False)
        self.squeeze = nn.Linear(num_out, 4)
        self.excite = nn.Conv2d(4, num_out, 1)
        pool = nn.AvgPool2d(2, stride, ceil_mode=True)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(num_in, num_out, 1)) if num_in != num_out else nn.Identity()
        self.scale = nn.Parameter(torch.rand(num_out, 1, 1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[0], self.scale.shape[0]
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.conv3(self.relu(self.bn2(self.conv2(y))))
        gate = F.adaptive_avg_pool2d(y, 1).view(n, c)
        gate = self.excite(self.squeeze(gate).view(n, -1, 1, 1)).sigmoid()
        y = y * gate.expand_as(y) * self.scale
        return self.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((2, 3, 2, 3)),
            nn.Conv2d(3, 12, 7, 2, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU6(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layers = nn.Sequential(Residual(12, 32, 2), Residual(32, 32, 1), Residual(32, 40, 2))
        self.fc = nn.Linear(40, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem(x))
        return self.fc(x.mean([2, 3]))


class ResNetMaps(ResNet):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.stem(x))


def net_of(kind: type[nn.Module]) -> nn.Module:
    """In eval mode, with batch statistics that are far from the identity."""
    torch.manual_seed(1)
    net = kind()
    for name, value in net.state_dict().items():
        if "bn" in name or name.startswith("stem.2"):
            value.uniform_(0.5, 1.5) if value.is_floating_point() else None
    return net.eval()


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("kind", [Vgg, VggMaps, ResNet, ResNetMaps])
@torch.no_grad()
def test_a_still_video_gives_the_2d_answer(kind: type[nn.Module], num_frames: int) -> None:
    net = net_of(kind)
    image = torch.randn(2, 3, 45, 58)
    expected = net(image)
    found = inflate(net)(still(image, num_frames))
    if expected.ndim == 4:  # maps: at every frame
        assert found.shape == (*expected.shape[:2], num_frames, *expected.shape[2:])
        expected = still(expected, num_frames)
    assert found.shape == expected.shape
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
def test_a_moving_video_is_seen_k_frames_at_a_time() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    clip = torch.randn(2, 3, 6, 9, 8, dtype=torch.float64)
    frames = torch.stack([conv(frame) for frame in clip.unbind(2)], 2)
    around = frames[:, :, [0, 0, 1, 2, 3, 4, 5, 5]]  # the ends stand still
    expected = (around[:, :, :-2] + around[:, :, 1:-1] + around[:, :, 2:]) / 3
    torch.testing.assert_close(inflate(conv)(clip), expected, rtol=1e-12, atol=1e-12)


def test_the_2d_net_is_not_changed() -> None:
    net = net_of(ResNet)
    before, kinds = copy.deepcopy(net.state_dict()), [type(module) for module in net.modules()]
    inflated = inflate(net)
    with torch.no_grad():
        for value in inflated.parameters():
            value.zero_()
    assert [type(module) for module in net.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_names_dtype_and_mode_are_kept() -> None:
    net = net_of(ResNet).to(torch.bfloat16)
    net.fc.weight.requires_grad_(False)
    net.stem[1].weight.requires_grad_(False)
    inflated = inflate(net)
    assert sorted(inflated.state_dict()) == sorted(net.state_dict())
    assert {value.dtype for value in inflated.parameters()} == {torch.bfloat16}
    frozen = {name for name, value in inflated.named_parameters() if not value.requires_grad}
    assert frozen == {"fc.weight", "stem.1.weight"}
    assert not any(module.training for module in inflated.modules())
    assert inflate(net.train()).training
    assert inflate(copy.deepcopy(net).to("meta")).get_parameter("stem.1.weight").is_meta


def test_gradients_reach_every_weight() -> None:
    net = inflate(net_of(ResNet).train())
    net(torch.randn(2, 3, 4, 32, 32)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in net.parameters())


def test_kernels_are_as_deep_as_they_are_small() -> None:
    net = inflate(net_of(Vgg))
    depths = {name: net.get_parameter(f"{name}.weight").shape[2] for name in ("conv1", "conv2", "conv3")}
    assert depths == {"conv1": 3, "conv2": 5, "conv3": 1}


@pytest.mark.parametrize(
    "time_kernel", [{"conv1": 1, "conv3": 4}, lambda name, kernel: {"conv1": 1, "conv3": 4}.get(name, max(kernel))]
)
@torch.no_grad()
def test_depths_can_be_chosen(time_kernel) -> None:
    net = net_of(VggMaps)
    inflated = inflate(net, time_kernel=time_kernel)
    depths = [inflated.get_parameter(f"{name}.weight").shape[2] for name in ("conv1", "conv2", "conv3")]
    assert depths == [1, 5, 4]
    image = torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(inflated(still(image, 3)), still(net(image), 3), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    net, image = Twice(), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(inflate(net)(still(image, 4)), still(net(image), 4))


class Calls(nn.Module):
    """A net whose forward is what the test gives."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, self.conv(x))


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (Calls(lambda net, x: net.deep(x), deep=nn.Conv3d(4, 4, 3)), r"the layer deep \(Conv3d\) has no 3D version"),
        (Calls(lambda net, x: net.norm(x), norm=nn.LayerNorm((4, 8, 8))), r"the layer norm \(LayerNorm\) has no 3D"),
        (Calls(lambda net, x: net.fc(x), fc=nn.Linear(8, 8)), r"the layer fc \(Linear\) has no 3D version"),
        (
            Calls(lambda net, x: net.pool(x)[0], pool=nn.MaxPool2d(2, return_indices=True)),
            r"the layer pool \(MaxPool2d\) with return_indices has no 3D",
        ),
        (
            Calls(lambda net, x: x.permute(0, 1, 3, 2)),
            r"the call of permute to \(0, 1, 3, 2\) has no 3D version here; w",
        ),
        (Calls(lambda net, x: x.permute(0, 2, 3, 1) * x), "the call of mul has no 3D version"),
        (Calls(lambda net, x: x.permute(0, 2, 3, 1).flatten(1)), "the call of flatten has no 3D version"),
        (
            Calls(lambda net, x: net.norm(x.permute(0, 2, 3, 1)), norm=nn.LayerNorm((8, 4))),
            r"the layer norm \(LayerNorm\) has no 3D",
        ),
        (
            Calls(lambda net, x: net.norm(x.permute(0, 2, 3, 1)), norm=nn.GroupNorm(2, 8)),
            r"the layer norm \(GroupNorm\) has no 3D",
        ),
        (Calls(lambda net, x: F.unfold(x, 3)), "the call of unfold has no 3D version"),
        (Calls(lambda net, x: x.view(1, 2, 2, 8, 8)), "the call of view to anything but vectors has no 3D version"),
        (Calls(lambda net, x: torch.cat([x, x], 2)), "the call of cat along axis 2"),
        (Calls(lambda net, x: x.mean(3)), r"the call of mean over axes \[3\] alone"),
        (Calls(lambda net, x: x.sum()), "the call of sum without axes"),
        (Calls(lambda net, x: x[0]), "the call of getitem with anything but slices"),
        (Calls(lambda net, x: F.max_pool2d(x, 2, return_indices=True)[0]), "the call of max_pool2d_with_indices"),
        (Calls(lambda net, x: F.conv2d(x, net.conv.weight * 2)), "the call of conv2d with a weight that is computed"),
        (Calls(lambda net, x: x if x.shape[2] > 4 else x * 2), "Calls's forward can't be traced"),
    ],
)
def test_what_cannot_be_inflated_is_named(net: nn.Module, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        inflate(net)


def test_the_place_of_a_call_is_named() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), Calls(lambda net, x: x.permute(0, 1, 3, 2))))
    with pytest.raises(UsageError, match=r"the call of permute in 0\.1 to \(0, 1, 3, 2\) has no"):
        inflate(net)


@pytest.mark.parametrize(
    ("time_kernel", "sentence"),
    [
        ({"conv9": 3}, "time_kernel names 'conv9', which is no convolution"),
        (lambda name, kernel: 0, "time_kernel gives 0 for conv1; it must be a whole number from 1"),
        ({"conv2": 1.5}, "time_kernel gives 1.5 for conv2"),
    ],
)
def test_depths_that_make_no_sense(time_kernel, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        inflate(net_of(Vgg), time_kernel=time_kernel)


def test_the_default_depth() -> None:
    assert [as_in_space("any", kernel) for kernel in ((1, 1), (3, 3), (1, 7), (4, 4))] == [1, 3, 1, 4]


def still(images: Tensor, num_frames: int) -> Tensor:
    """N×C×H×W -> N×C×T×H×W, a video that does not move."""
    return images.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
