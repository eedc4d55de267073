"""Each layer's 3D version gives, at every frame of a still video, what the layer gives of the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.backbones.inflate import inflate
from pipeline.backbones.inflate_layers import ANY_RANK, LAYERS, PerFrame, TimeConv3d, inflate_weight, time_pad

CONVS = {
    "plain": nn.Conv2d(8, 6, 3),
    "1x1": nn.Conv2d(8, 6, 1),
    "strided": nn.Conv2d(8, 6, 5, stride=(2, 3), padding=(2, 1)),
    "depthwise": nn.Conv2d(8, 16, 3, groups=8, padding=1, bias=False),
    "dilated": nn.Conv2d(8, 6, 3, dilation=(2, 3), padding=2, groups=2),
    "same": nn.Conv2d(8, 6, (5, 3), padding="same", dilation=2),
    "same, even": nn.Conv2d(8, 6, (4, 2), padding="same"),
    "valid": nn.Conv2d(8, 6, 4, padding="valid"),
    "reflect": nn.Conv2d(8, 6, 3, padding=(2, 1), padding_mode="reflect", stride=2),
    "replicate": nn.Conv2d(8, 6, 3, padding=1, padding_mode="replicate"),
    "circular, same": nn.Conv2d(8, 6, (4, 3), padding="same", padding_mode="circular"),
}

EXAMPLES = {
    nn.ConvTranspose2d: nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=(1, 0), groups=2),
    nn.BatchNorm2d: nn.BatchNorm2d(8, eps=1e-2),
    nn.InstanceNorm2d: nn.InstanceNorm2d(8, affine=True),
    nn.MaxPool2d: nn.MaxPool2d((3, 2), stride=2, padding=(1, 0), dilation=(2, 1), ceil_mode=True),
    nn.AvgPool2d: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    nn.AdaptiveAvgPool2d: nn.AdaptiveAvgPool2d((3, None)),
    nn.AdaptiveMaxPool2d: nn.AdaptiveMaxPool2d(4),
    nn.Dropout2d: nn.Dropout2d(0.5),
    nn.ZeroPad2d: nn.ZeroPad2d((1, 2, 3, 0)),
    nn.ConstantPad2d: nn.ConstantPad2d((1, 2, -1, 0), 3.5),
    nn.ReflectionPad2d: nn.ReflectionPad2d((1, 2, 3, 0)),
    nn.ReplicationPad2d: nn.ReplicationPad2d((1, 2, 3, 0)),
    nn.CircularPad2d: nn.CircularPad2d((1, 2, 3, 0)),
    nn.Softmax2d: nn.Softmax2d(),
    nn.LPPool2d: nn.LPPool2d(2, 3, stride=2),
    nn.PixelShuffle: nn.PixelShuffle(2),
    nn.PixelUnshuffle: nn.PixelUnshuffle(2),
    nn.Upsample: nn.Upsample(scale_factor=1.5, mode="bicubic"),
    nn.UpsamplingBilinear2d: nn.UpsamplingBilinear2d(size=(20, 13)),
    nn.UpsamplingNearest2d: nn.UpsamplingNearest2d(scale_factor=2),
    nn.GroupNorm: nn.GroupNorm(2, 8),
    nn.PReLU: nn.PReLU(8),
    nn.ChannelShuffle: nn.ChannelShuffle(4),
    nn.LocalResponseNorm: nn.LocalResponseNorm(5, alpha=0.5),
    nn.Threshold: nn.Threshold(0.1, 20),
}
NEED_TRAINING = {nn.SyncBatchNorm}  # and a GPU


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", CONVS)
def test_convolutions(name: str) -> None:
    check(CONVS[name])


def test_every_layer_has_an_example() -> None:
    assert LAYERS.keys() <= EXAMPLES.keys()


REST = sorted(ANY_RANK - EXAMPLES.keys() - NEED_TRAINING, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", [*EXAMPLES, *REST], ids=lambda kind: kind.__name__)
def test_layers(kind: type[nn.Module]) -> None:
    check(EXAMPLES[kind] if kind in EXAMPLES else kind())


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(8), nn.Dropout2d(), nn.Upsample(scale_factor=1)])
def test_training_layers_take_clips(layer: nn.Module) -> None:
    layer = inflate(nn.Sequential(layer).train())
    assert layer(torch.randn(2, 8, 3, 4, 4)).shape == (2, 8, 3, 4, 4)
    assert layer.get_submodule("0").training


def test_a_bf16_clip_stays_channels_last() -> None:
    conv = TimeConv3d(nn.Conv2d(8, 6, 3, padding=1), 3).to(torch.bfloat16)
    clip = torch.randn(1, 8, 3, 6, 6, dtype=torch.bfloat16).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert conv(clip).is_contiguous(memory_format=torch.channels_last_3d)


def test_a_weight_is_repeated_and_divided() -> None:
    weight = torch.arange(2.0 * 3 * 3 * 3).view(2, 3, 3, 3)
    found = inflate_weight(weight, 4)
    assert found.shape == (2, 3, 4, 3, 3)
    assert all(torch.equal(part, weight / 4) for part in found.unbind(2))


def test_the_length_of_a_clip_stays() -> None:
    assert [time_pad(depth) for depth in (1, 2, 3, 4, 5)] == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


def test_frames_by_themselves() -> None:
    clip = torch.randn(2, 8, 3, 4, 6)
    found = PerFrame(nn.PixelShuffle(2))(clip)
    assert torch.equal(found, torch.stack([nn.PixelShuffle(2)(frame) for frame in clip.unbind(2)], 2))


@torch.no_grad()
def check(layer: nn.Module) -> None:
    torch.manual_seed(2)
    layer = layer.double().eval()
    for name, value in layer.state_dict().items():
        value.uniform_(0.5, 1.5) if value.is_floating_point() else None
        assert "num_batches" in name or value.unique().numel() > 1 or value.numel() == 1
    image = torch.randn(2, 8, 12, 10, dtype=torch.float64)
    expected = layer(image)
    for num_frames in (1, 2, 7):
        found = inflate(nn.Sequential(layer))(image.unsqueeze(2).expand(-1, -1, num_frames, -1, -1))
        frames: tuple[Tensor, ...] = found.unbind(2)
        assert len(frames) == num_frames
        for frame in frames:
            torch.testing.assert_close(frame, expected, rtol=1e-11, atol=1e-11)
