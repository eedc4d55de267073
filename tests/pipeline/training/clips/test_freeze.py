"""Frozen layers: the modules that make a layer, and that neither their weights nor their statistics move."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline import backbones
from pipeline.backbones.network import Network
from pipeline.training.batch_norm import SharedBatchNorm, share_batch_norms
from pipeline.training.clips.freeze import freeze, modules_up_to
from schemas.errors import UsageError

CLIP = (8, 32, 40)


@pytest.fixture
def net() -> Network:
    return backbones.build("small_rgb", weights="random:0").requires_grad_(True)


def test_a_layer_takes_along_all_that_is_before_it(net: Network) -> None:
    convs = ["conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b"]
    for place, layer in enumerate(convs, start=1):
        expected = [f"{conv}.{part}" for conv in convs[:place] for part in ("conv", "bn")]
        assert modules_up_to(net, layer, clip=CLIP) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "layer", "clip"),
    [
        ("c3d", "conv3a", (16, 112, 112)),
        ("i3d_rgb", "Mixed_4b", (9, 64, 64)),
        ("i3d_r50", "res3", (8, 64, 64)),
        ("efficientnet_lite0", "stage4", (2, 64, 64)),
    ],
)
def test_of_other_models_branches_and_shortcuts_go_along(model: str, layer: str, clip: tuple[int, int, int]) -> None:
    """What is frozen decides the layer: changed weights elsewhere change nothing in it, and its own all do."""
    net = backbones.build(model, weights="random:0")
    names = modules_up_to(net, layer, clip=clip)
    below = {f"{name}.{key}" for name in names for key, _ in net.get_submodule(name).named_parameters(recurse=False)}
    x = torch.randn(1, 3, *clip, generator=torch.Generator().manual_seed(0))
    before = net.features(x, layer=layer)
    used = {name for name, value in _gradients(net, x, layer).items() if value}
    assert used == below
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name not in below:
                parameter.fill_(torch.nan)
    assert torch.equal(net.features(x, layer=layer), before)


def _gradients(net: Network, x: torch.Tensor, layer: str) -> dict[str, bool]:
    """Which parameters a layer depends on."""
    net.requires_grad_(True)
    net.features(x, layer=layer).sum().backward()
    found = {name: parameter.grad is not None for name, parameter in net.named_parameters()}
    net.requires_grad_(False)
    return found


def test_nothing_is_computed_or_changed_to_find_them(net: Network) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modules_up_to(net, "conv3a", clip=CLIP)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert next(net.parameters()).device.type == "cpu"


def test_frozen_weights_and_statistics_stay_and_the_others_move(net: Network) -> None:
    names = modules_up_to(net, "conv2", clip=CLIP)
    net.train()
    freeze(net, names)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        net(torch.randn(4, 3, *CLIP, generator=generator)).square().sum().backward()
        optimizer.step()
    for name, value in net.state_dict().items():
        stays = name.startswith(("conv1.", "conv2."))
        assert torch.equal(value, before[name]) == stays, name


def test_it_is_to_be_repeated_after_train(net: Network) -> None:
    names = modules_up_to(net, "conv1", clip=CLIP)
    freeze(net, names)
    net.train()
    assert net.get_submodule("conv1.bn").training
    freeze(net, names)
    assert not net.get_submodule("conv1.bn").training
    assert net.get_submodule("conv2.bn").training


def test_a_layer_that_is_no_map_is_one_sentence(net: Network) -> None:
    for layer in ("logits", "avgpool", "conv9"):
        with pytest.raises(UsageError) as error:
            modules_up_to(net, layer, clip=CLIP)
        assert str(error.value) == (
            f"freeze: small_rgb has no map {layer!r}; it has conv1, conv2, conv3a, conv3b, conv4a, conv4b"
        )


def test_shared_batch_norms_are_frozen_too(net: Network) -> None:
    """What several workers make of batch norms keeps names and parameters."""
    names = modules_up_to(net, "conv1", clip=CLIP)
    keys, parameters = list(net.state_dict()), {id(parameter) for parameter in net.parameters()}
    share_batch_norms(net)
    assert isinstance(net.get_submodule("conv1.bn"), SharedBatchNorm)
    assert list(net.state_dict()) == keys
    assert {id(parameter) for parameter in net.parameters()} == parameters
    net.train()
    freeze(net, names)
    assert not net.get_submodule("conv1.bn").training
