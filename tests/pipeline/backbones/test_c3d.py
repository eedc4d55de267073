"""C3D against a plain reading of the prototxt, its sizes, its recipes, its options and its formats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.backbones import build, c3d
from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.identity import Option
from pipeline.backbones.preprocess import Preprocessing, resolve
from pipeline.backbones.views import cut, views_of
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import PreprocessSection

MEAN_FILE = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "c3d" / "sports1m_mean_16x112x112x3.npy"
SPORTS1M = c3d.RECIPES["c3d-sports1m"]


def meta_net(num_classes: int | None, **options: Option) -> c3d.C3D:
    """Shapes without numbers."""
    return c3d.open_net(num_classes, options, SPORTS1M)


@pytest.fixture(scope="module")
def net() -> c3d.C3D:
    return build("c3d", weights="random:3")


@pytest.fixture(scope="module")
def clip() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, 16, 112, 112, generator=generator) * 50


class CeilPool(nn.Module):
    """Max over 2×2×2 windows by the ceil-mode formula, spelled out: out = ceil((n - k) / s) + 1, windows cut at the
    far side."""

    def forward(self, x: Tensor) -> Tensor:
        outs = [-(-(n - 2) // 2) + 1 for n in x.shape[2:]]
        assert outs == [1, 4, 4]
        rows = []
        for i in range(outs[1]):
            cells = [x[:, :, 0:2, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3, 4)) for j in range(outs[2])]
            rows.append(torch.stack(cells, -1))
        return torch.stack(rows, -2).unsqueeze(2)  # N×512×1×4×4


def reference(net: c3d.C3D) -> nn.Sequential:
    """The prototxt, layer by layer, with the weights of `net` in file order."""
    plan = [
        nn.Conv3d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2), (1, 2, 2)),
        nn.Conv3d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        nn.Conv3d(128, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        nn.Conv3d(256, 512, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(512, 512, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d(2, 2),
        nn.Conv3d(512, 512, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(512, 512, 3, padding=1),
        nn.ReLU(),
        CeilPool(),
        nn.Flatten(),
        nn.Linear(8192, 4096),
        nn.ReLU(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, 487),
    ]
    whole = nn.Sequential(*plan)
    state = dict(zip(whole.state_dict(), net.state_dict().values(), strict=True))
    whole.load_state_dict(state, assign=True)
    return whole.eval()


def test_forward_is_the_prototxt(net: c3d.C3D, clip: Tensor) -> None:
    blobs: dict[str, Tensor] = {}
    points = {1: "conv1a", 12: "conv4a", 21: "pool5", 23: "fc6", 25: "fc7", 26: "fc8"}
    with torch.inference_mode():
        x = clip
        for index, layer in enumerate(reference(net)):
            x = layer(x)
            if index in points:
                blobs[points[index]] = x.mean((2, 3, 4)) if x.ndim == 5 else x
        ours = {name: net.features(clip, layer=name) for name in ("conv1a", "conv4a", "fc6")}
        ours["fc8"] = net(clip)
        for name in ours:
            torch.testing.assert_close(ours[name], blobs[name], rtol=2e-4, atol=1e-4 * float(blobs[name].abs().max()))
        assert (blobs["fc6"] >= 0).all()
        assert (blobs["fc6"] == 0).any(), "the reference is after ReLU too"


def test_pool5_modes_differ_and_match_their_formulas(net: c3d.C3D) -> None:
    x = torch.arange(2 * 7 * 7, dtype=torch.float32).view(1, 1, 2, 7, 7)
    ceil = net.pool5(x)[0, 0, 0]
    edges = torch.tensor([1.0, 3, 5, 6])  # the last row or column that each window sees
    assert torch.equal(ceil, 49 + 7 * edges[:, None] + edges)
    symmetric = meta_net(487, pool5="symmetric").pool5(x)[0, 0, 0]
    edges = torch.tensor([0.0, 2, 4, 6])
    assert torch.equal(symmetric, 49 + 7 * edges[:, None] + edges)


def test_sizes(net: c3d.C3D) -> None:
    assert sum(value.numel() for value in net.parameters()) == 79_991_015  # 79.99 M
    assert round(macs_of_one_clip("fc8") / 1e9, 2) == 38.55


def test_nothing_beyond_the_layer_is_computed() -> None:
    conv1a = 64 * 16 * 112 * 112 * 3 * 27
    conv2a = 128 * 16 * 56 * 56 * 64 * 27
    assert macs_of_one_clip("conv1a") == conv1a
    assert macs_of_one_clip("conv2a") == conv1a + conv2a
    assert macs_of_one_clip("fc6") == macs_of_one_clip("pool5") + 8192 * 4096
    assert macs_of_one_clip("fc8") == macs_of_one_clip("fc6") + 4096 * 4096 + 4096 * 487


def macs_of_one_clip(layer: str) -> int:
    """Multiply-accumulates, counted by hooks on shapes alone."""
    macs = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module.weight, Tensor)
        macs += output[0].numel() * module.weight[0].numel()

    meta = meta_net(487)
    for module in meta.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            module.register_forward_hook(count)
    out = meta.features(torch.empty(1, 3, 16, 112, 112, device="meta"), layer=layer)
    assert out.shape == (1, meta.spec.layers[layer])
    return macs


def test_batch_and_single_agree(net: c3d.C3D, clip: Tensor) -> None:
    two = torch.cat([clip, clip.flip(2)])
    with torch.inference_mode():
        both = net.features(two, layer="conv2a")
        torch.testing.assert_close(both[:1], net.features(clip, layer="conv2a"), rtol=1e-4, atol=1e-3)
    assert both.shape == (2, 128)
    assert not torch.allclose(both[0], both[1])


def test_unknown_layer(net: c3d.C3D) -> None:
    with pytest.raises(UsageError, match=r"c3d has no .avgpool.; it has conv1a, .*pool5, fc6, fc7, fc8"):
        net.features(torch.empty(1), layer="avgpool")


def test_without_a_classifier_only_logits_are_refused() -> None:
    bare = meta_net(None)
    assert bare.features(torch.empty(1, 3, 16, 112, 112, device="meta"), layer="fc7").shape == (1, 4096)
    with pytest.raises(ReelmillError, match="no classifier"):
        bare(torch.empty(1, 3, 16, 112, 112, device="meta"))


# ---------------------------------------------------------------- random weights


def test_random_weights_are_the_seeds(net: c3d.C3D) -> None:
    again, other = meta_net(5), meta_net(5)
    with torch.no_grad():
        c3d.init_random(again.to_empty(device="cpu"), 3)
        c3d.init_random(other.to_empty(device="cpu"), 4)
    assert torch.equal(again.conv5b.weight, net.conv5b.weight)
    assert torch.equal(again.fc7.weight, net.fc7.weight)
    assert not torch.equal(other.conv1a.weight, net.conv1a.weight)
    assert not net.fc6.bias.any()


def test_random_kernels_have_no_mean_and_the_variance_of_kaiming(net: c3d.C3D) -> None:
    for name in ("conv1a", "conv3b", "conv5a"):
        weight = net.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        assert weight.mean((2, 3, 4)).abs().max() < 1e-6
        fan_in = weight[0].numel()
        assert weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)


# ---------------------------------------------------------------- preprocessing


def frames(height: int, width: int, num_frames: int = 16) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def center(recipe: Preprocessing, stored: np.ndarray) -> np.ndarray:
    fitted = recipe.fit(stored)
    (view,) = views_of(fitted.shape[1:3], recipe.crop, crops=1, flip=False)
    (cropped,) = cut(fitted, recipe.crop, [view])
    return cropped


def test_the_paper_s_size_is_cropped_at_8_29() -> None:
    stored = frames(128, 171)
    assert np.array_equal(center(SPORTS1M, stored), stored[:, 8:120, 29:141])


def test_frames_of_the_crop_s_size_are_used_as_they_are() -> None:
    stored = frames(112, 112)
    assert np.array_equal(center(SPORTS1M, stored), stored)


@pytest.mark.parametrize("size", [(240, 320), (100, 60), (112, 171)])
def test_any_other_size_is_resized_to_128_171(size: tuple[int, int]) -> None:
    stored = frames(*size)
    whole = cv2.resize(stored[5], (171, 128), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(center(SPORTS1M, stored)[5], whole[8:120, 29:141])


def test_input_is_bgr_minus_the_mean() -> None:
    stored = frames(112, 112)
    x = SPORTS1M.normalise(torch.from_numpy(stored[None]))
    assert x.shape == (1, 3, 16, 112, 112)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last_3d)
    for channel, mean in enumerate(c3d.MEAN_BGR):
        expected = stored[..., 2 - channel].astype(np.float64) - mean
        np.testing.assert_allclose(x[0, channel].numpy(), expected, atol=2e-5)


def test_the_mean_is_that_of_the_published_volume() -> None:
    if not MEAN_FILE.exists():
        pytest.skip(f"{MEAN_FILE} is not here")
    np.testing.assert_allclose(np.load(MEAN_FILE).mean((0, 1, 2), dtype=np.float64), c3d.MEAN_BGR, atol=1e-7)


def test_the_published_volume_is_a_mean() -> None:
    if not MEAN_FILE.exists():
        pytest.skip(f"{MEAN_FILE} is not here")
    recipe = resolve("c3d", c3d.RECIPES, PreprocessSection(mean=str(MEAN_FILE)))
    stored = frames(112, 112)
    x = recipe.normalise(torch.from_numpy(stored[None]))  # 1×3×16×112×112
    expected = stored[..., ::-1].astype(np.float64) - np.load(MEAN_FILE)
    np.testing.assert_allclose(x[0].permute(1, 2, 3, 0).numpy(), expected, atol=2e-5)


def test_a_mean_of_another_length_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((8, 112, 112, 3), np.float32))
    with pytest.raises(UsageError, match=r"preprocess\.mean: .*mean\.npy holds 8 frames, c3d takes 16"):
        build("c3d", weights="random:0", preprocess=PreprocessSection(mean=str(tmp_path / "mean.npy")))


def test_mmaction2_keeps_the_aspect_and_gives_rgb_the_means_of_its_configs() -> None:
    recipe = c3d.RECIPES["mmaction2"]
    assert recipe.target(240, 320) == (128, 171)
    assert recipe.target(320, 240) == (171, 128)
    stored = frames(112, 112)
    x = recipe.normalise(torch.from_numpy(stored[None]))
    np.testing.assert_array_equal(x[0, 0].numpy(), stored[..., 0].astype(np.float32) - 104)
    np.testing.assert_array_equal(x[0, 2].numpy(), stored[..., 2].astype(np.float32) - 128)


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match=r"model_options\.pol5: c3d has no such option; it has num_classes and pool5"):
        build("c3d", weights="random:0", options={"pol5": "ceil"})
    with pytest.raises(UsageError, match="write ceil or symmetric, got 'floor'"):
        meta_net(487, pool5="floor")


# ---------------------------------------------------------------- formats


def test_the_names_of_the_formats_as_published() -> None:
    maps = {fmt.format: fmt.keys for fmt in c3d.FORMATS}
    assert maps["DavideA c3d.pickle"]["conv2.weight"] == "conv2a.weight"
    assert maps["mmaction2 backbone"]["conv3b.conv.bias"] == "conv3b.bias"
    assert maps["mmaction2 recognizer"]["backbone.fc7.weight"] == "fc7.weight"
    assert maps["mmaction2 recognizer"]["cls_head.fc_cls.bias"] == "fc8.bias"


@pytest.mark.parametrize("fmt", c3d.FORMATS, ids=lambda fmt: fmt.format)
def test_each_format_fills_every_parameter(fmt: KeyMap) -> None:
    has_classifier = "fc8.bias" in fmt.keys.values()
    net = meta_net(487 if has_classifier else None)
    assert sorted(fmt.keys.values()) == sorted(net.state_dict())
    assert len(set(fmt.keys.values())) == len(fmt.keys)
