"""Which modules of a backbone a layer is made by: those that stay as they are when its lower part is frozen."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pipeline.backbones.network import Network
from schemas.errors import UsageError


def modules_up_to(net: Network, layer: str, *, clip: tuple[int, int, int]) -> list[str]:
    """Names of the modules that run until `layer` is there, for clips of (T, H, W).

    Found by running the trunk on the meta device, where nothing is computed. Raises UsageError where `layer` is no map
    of the net.
    """
    if layer not in net.spec.map_layers:
        have = ", ".join(net.spec.map_layers)
        raise UsageError(f"freeze: {net.spec.name} has no map {layer!r}; it has {have}")
    shadow = copy.deepcopy(net).to("meta")
    ran: list[str] = []

    def note(name: str) -> None:
        module = shadow.get_submodule(name)
        module.register_forward_hook(lambda *_: ran.append(name))

    for name, module in shadow.named_modules():
        if name and (next(module.parameters(recurse=False), None) is not None or _is_norm(module)):
            note(name)
    channels = 3 if net.spec.modality == "rgb" else 2
    x: Tensor = torch.empty(1, channels, *clip, device="meta")
    for name, _ in shadow.trunk(x):
        if name == layer:
            break
    return list(dict.fromkeys(ran))


def freeze(net: Network, names: list[str]) -> None:
    """Let these modules learn nothing more; batch norms among them keep their statistics. To repeat after `train()`."""
    for name in names:
        module = net.get_submodule(name)
        module.eval()
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
