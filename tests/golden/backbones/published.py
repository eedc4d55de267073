"""Runs published code with the weights of weights.py, and writes what it gives: NAME.json and NAME.npz.

For the make scripts beside it, in an environment that has the published project's own requirements.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from weights import clip_for, tensor_for

HERE = Path(__file__).resolve().parent
MMACTION2_PARTS = {  # package -> the module that a recognizer needs of it
    "mmaction.models": "",
    "mmaction.models.backbones": "",
    "mmaction.models.heads": "i3d_head",
    "mmaction.models.losses": "cross_entropy_loss",
    "mmaction.models.recognizers": "recognizer3d",
    "mmaction.models.data_preprocessors": "data_preprocessor",
}

Run = Callable[[str, Tensor], dict[str, Tensor]]  # case, clip -> layer -> N×D


def mmaction2_recognizer(checkout: Path, *, config: str, backbone: str) -> nn.Module:
    """The recognizer of a config, filled, in eval mode, without the pretrained weights that it would download."""
    bare_packages(checkout, *MMACTION2_PARTS)
    for package, module in (*MMACTION2_PARTS.items(), ("mmaction.models.backbones", backbone)):
        __import__(f"{package}.{module}" if module else package)
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    model = Config.fromfile(checkout / "configs/recognition" / config).model
    model.backbone.pretrained = None
    return filled(MODELS.build(model))


def bare_packages(root: Path, *names: str) -> None:
    """Import from `root`; of these packages only the modules that are asked for, not all that their own file does."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for name in names:
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules.setdefault(name, package)


def filled(net: nn.Module) -> nn.Module:
    """The net in eval mode, each tensor a function of its key."""
    state = {key: torch.from_numpy(tensor_for(key, tuple(value.shape))) for key, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


@torch.inference_mode()
def write(
    name: str, *, peer: str, checkout: Path, net: nn.Module, cases: Mapping[str, tuple[int, ...]], run: Run
) -> None:
    """NAME.json: the peer, its commit, keys and shapes of its state dict, cases. NAME.npz: CASE/LAYER."""
    arrays = {}
    for case, shape in cases.items():
        for layer, value in run(case, torch.from_numpy(clip_for(case, shape))).items():
            arrays[f"{case}/{layer}"] = value.numpy()
            print(f"{name} {case} {layer} {tuple(value.shape)} std {value.std():.3g}", flush=True)
    keys = {key: list(value.shape) for key, value in net.state_dict().items()}
    facts = {"peer": peer, "commit": _commit(checkout), "torch": torch.__version__}
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(shape)}" for key, shape in keys.items())
    text = f'{json.dumps(facts)[:-1]},\n "cases": {json.dumps(cases)},\n "keys": {{\n{lines}\n }}}}\n'
    (HERE / f"{name}.json").write_text(text)
    np.savez(HERE / f"{name}.npz", **arrays)


def _commit(checkout: Path) -> str:
    call = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
