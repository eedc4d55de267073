"""The small networks: where frames meet in each fusion, what they cost, that they train, and their own files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.backbones import build, save, small
from pipeline.backbones.checkpoint_file import read
from pipeline.backbones.identity import Option
from pipeline.backbones.network import Network
from pipeline.backbones.precision import Precision, prepare
from pipeline.backbones.recognise import recognise
from schemas.errors import UsageError

FUSIONS = ("single_frame", "late", "early", "3d")


def net_of(fusion: str, model: str = "small_rgb", **options: Option) -> small.Small:
    """Seeded, in eval mode, its batch norms far from identity."""
    net = build(model, weights="random:3", options={"fusion": fusion, **options})
    assert isinstance(net, small.Small)
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            for value in (module.weight, module.bias, module.running_mean):
                assert isinstance(value, Tensor)
                value.normal_(generator=generator)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2, generator=generator)
    return net


def clips(num: int = 2, *, frames: int = 16, size: tuple[int, int] = (36, 44), channels: int = 3) -> Tensor:
    return torch.randn(num, channels, frames, *size, generator=torch.Generator().manual_seed(7))


def backwards(x: Tensor) -> Tensor:
    return x.flip(2)


# ---------------------------------------------------------------- where frames meet


def test_single_frames_are_scored_one_by_one_and_averaged() -> None:
    net, x = net_of("single_frame"), clips()
    of_frames = torch.stack([net(x[:, :, t : t + 1]) for t in range(16)])
    torch.testing.assert_close(net(x), of_frames.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(backwards(x)), net(x), rtol=1e-4, atol=1e-5)


def test_late_sees_frames_alone_until_the_fully_connected_layer() -> None:
    net, x = net_of("late"), clips()
    maps = net.features(x, layer="conv4b", dense=True)  # 2×128×16×2×2
    torch.testing.assert_close(net.features(backwards(x), layer="conv4b", dense=True), maps.flip(2))
    assert net.fc is not None
    vectors = maps.mean((3, 4)).flatten(1)  # 2×(128·16)
    torch.testing.assert_close(net.features(x), F.relu(net.fc(vectors)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(backwards(x)), net(x), rtol=1e-2)


def test_early_takes_frames_as_channels_of_a_2d_net() -> None:
    net, x = net_of("early"), clips()
    kernel = net.conv1.conv.weight  # 16×3×16×3×3
    flat = F.conv2d(x.flatten(1, 2), kernel.flatten(1, 2), stride=2, padding=1).unsqueeze(2)
    torch.testing.assert_close(
        net.features(x, layer="conv1", dense=True), net.conv1.bn(flat).relu(), rtol=1e-4, atol=1e-4
    )
    assert net.features(x, layer="conv4b", dense=True).shape == (2, 128, 1, 2, 2)
    assert not torch.allclose(net(backwards(x)), net(x), rtol=1e-2)


def test_3d_mixes_neighbours_in_every_convolution() -> None:
    net, x = net_of("3d"), clips()
    moved = x.clone()
    moved[:, :, 0] += 1
    for layer, num_reached in (("conv1", 2), ("conv2", 3), ("conv3a", 3), ("conv3b", 4)):
        change = net.features(moved, layer=layer, dense=True) - net.features(x, layer=layer, dense=True)
        assert (change.abs().amax((0, 1, 3, 4)) > 0).nonzero().flatten().tolist() == list(range(num_reached)), layer
    assert all(conv.conv.kernel_size == (3, 3, 3) for conv in net.modules() if isinstance(conv, small.ConvBN))
    assert not torch.allclose(net(backwards(x)), net(x), rtol=1e-2)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("model", ["small_rgb", "small_flow"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_maps_for_detection(fusion: str, model: str) -> None:
    net = opened(fusion, model)
    x = torch.empty(1, 3 if model == "small_rgb" else 2, 16, 144, 176, device="meta")
    times = {"single_frame": [16] * 6, "late": [16] * 6, "early": [1] * 6, "3d": [16, 16, 8, 8, 4, 4]}[fusion]
    sides = [(72, 88), (36, 44), (18, 22), (18, 22), (9, 11), (9, 11)]
    for layer, frames, side in zip(net.spec.map_layers, times, sides, strict=True):
        wanted = (1, net.spec.layers[layer], frames, *side)
        assert net.features(x, layer=layer, dense=True).shape == wanted
    assert net.features(x).shape == (1, 128)
    assert net(x).shape == (1, 8)


def test_the_same_width_and_depth_and_little_work() -> None:
    macs = {fusion: macs_of_one_clip(fusion) for fusion in FUSIONS}
    assert {fusion: round(num / 1e6) for fusion, num in macs.items()} == {
        "single_frame": 199,
        "late": 199,
        "early": 23,
        "3d": 305,
    }
    widths = {fusion: list(opened(fusion).spec.layers.values()) for fusion in FUSIONS}
    assert all(width == widths["3d"] for width in widths.values())


def opened(fusion: str, model: str = "small_rgb") -> Network:
    """On the meta device: shapes without numbers."""
    declared = small.MODELS[model]
    return declared.open_net(8, {"fusion": fusion}, declared.recipes["small"])


def macs_of_one_clip(fusion: str) -> int:
    macs = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module.weight, Tensor)
        macs += output[0].numel() * module.weight[0].numel()

    net = opened(fusion)
    for module in net.modules():
        if isinstance(module, (nn.Conv3d, nn.Linear)):
            module.register_forward_hook(count)
    net(torch.empty(1, 3, 16, 72, 88, device="meta"))
    return macs


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (72, 88)])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_frames_of_any_size_from_32_px(fusion: str, size: tuple[int, int]) -> None:
    logits = net_of(fusion)(clips(1, size=size))
    assert logits.shape == (1, 8)
    assert logits.isfinite().all()


def test_smaller_frames_are_refused() -> None:
    with pytest.raises(UsageError, match=r"small_rgb takes frames of 32 px or more a side, got 31×44"):
        net_of("3d")(clips(1, size=(31, 44)))


def test_frames_are_fixed_where_weights_belong_to_places_in_time() -> None:
    for fusion in ("late", "early"):
        with pytest.raises(UsageError, match="small_rgb takes clips of 16 frames, got 10"):
            net_of(fusion)(clips(1, frames=10))
        assert net_of(fusion, frames=10)(clips(1, frames=10)).shape == (1, 8)
    assert net_of("single_frame")(clips(1, frames=1)).shape == (1, 8)
    assert net_of("3d")(clips(1, frames=4)).shape == (1, 8)
    assert net_of("3d")(clips(1, frames=33)).shape == (1, 8)
    with pytest.raises(UsageError, match="takes clips of 4 or more frames, got 3"):
        net_of("3d")(clips(1, frames=3))


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match=r"model_options.fusion: write single_frame, late, early or 3d, got 'slow'"):
        net_of("slow")
    for frames in (True, 1, 2.5, "16"):
        with pytest.raises(UsageError, match=r"model_options.frames: a whole number of frames, 2 or more"):
            net_of("late", frames=frames)
    with pytest.raises(UsageError, match=r"model_options.frames: 3d takes clips of any length; drop it"):
        net_of("3d", frames=16)
    assert build("small_rgb", weights="random:0").options == {"fusion": "3d"}


# ---------------------------------------------------------------- weights


def test_random_weights_are_he_s_and_the_seed_s() -> None:
    nets = [build("small_rgb", weights=f"random:{seed}", options={"num_classes": 5}) for seed in (3, 3, 4)]
    first, again, other = (net.state_dict() for net in nets)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv4b.conv.weight"], other["conv4b.conv.weight"])
    weight = first["conv4b.conv.weight"]
    assert weight.var().item() == pytest.approx(2 / weight[0].numel(), rel=0.02)
    assert first["logits.weight"].shape == (5, 128)
    assert (first["conv1.bn.weight"] == 1).all()
    assert not first["logits.bias"].any()


@pytest.mark.parametrize("model", ["small_rgb", "small_flow"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_its_own_file_is_the_same_net(tmp_path: Path, fusion: str, model: str) -> None:
    options: dict[str, Option] = {"frames": 8} if fusion in ("late", "early") else {}
    net = net_of(fusion, model, num_classes=5, **options)
    path = tmp_path / "own.safetensors"
    save(net, path)
    again = build(model, weights=str(path))
    assert again.options == net.options
    assert again.weights.format == "reelmill"
    x = clips(frames=8, channels=3 if model == "small_rgb" else 2)
    assert torch.equal(again(x), net(x))
    assert [found.model.name for found in recognise(read(path))] == [model]


def test_without_its_classifier_a_file_gives_features(tmp_path: Path) -> None:
    net = net_of("late")
    save(net, tmp_path / "own.safetensors")
    state = {key: value for key, value in load_file(tmp_path / "own.safetensors").items() if "logits" not in key}
    save_file(state, tmp_path / "bare.safetensors")  # also without what reelmill wrote of it
    bare = build("small_rgb", weights=str(tmp_path / "bare.safetensors"))
    assert (bare.spec.num_classes, bare.options["fusion"]) == (None, "late")
    assert torch.equal(bare.features(clips()), net.features(clips()))


# ---------------------------------------------------------------- in use


def test_a_recipe_that_leaves_sizes_to_the_clips() -> None:
    recipe = small.RECIPES["rgb"]
    assert recipe.target(72, 88) == (72, 88)
    assert recipe.crop is None
    x = recipe.normalise(torch.full((1, 4, 32, 32, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(x, torch.full((1, 3, 4, 32, 32), (1 - 0.45) / 0.225))
    flow = small.RECIPES["flow"].normalise(torch.full((1, 4, 32, 32, 2), -40.0))
    assert (flow == -1).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_made_ready_for_inference_it_is_the_same_function(fusion: str) -> None:
    exact = net_of(fusion)(clips())
    ready = prepare(net_of(fusion), Precision("fp32", "asked"), torch.device("cpu"))
    torch.testing.assert_close(ready(clips()), exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


def test_3d_learns_to_tell_which_way_time_runs_and_single_frames_do_not() -> None:
    ramp = torch.linspace(-1, 1, 8).view(1, 1, 8, 1, 1)
    noise = torch.randn(8, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    brighter = noise + ramp
    x = torch.cat([brighter, backwards(brighter)])  # the same frames in both classes
    labels = torch.tensor([0] * 8 + [1] * 8)
    losses = {fusion: trained_loss(fusion, x, labels) for fusion in ("3d", "single_frame")}
    assert losses["3d"] < 0.1
    assert losses["single_frame"] > 0.65, "ln 2 is what guessing costs"


def trained_loss(fusion: str, x: Tensor, labels: Tensor) -> float:
    net = build("small_rgb", weights="random:0", options={"fusion": fusion, "num_classes": 2})
    net.requires_grad_(True).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()
    return loss.item()
