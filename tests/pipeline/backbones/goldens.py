"""The numbers of published code in tests/golden/backbones, and the checkpoints that gave them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[2] / "golden/backbones"

_spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
assert _spec is not None
assert _spec.loader is not None
_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_weights)
tensor_for, clip_for = _weights.tensor_for, _weights.clip_for


class Golden:
    """What one published net gave: `published[CASE/LAYER]`, for clip(CASE) and the state dict `state()`."""

    def __init__(self, name: str) -> None:
        facts = json.loads((FOLDER / f"{name}.json").read_text())
        self.keys: dict[str, list[int]] = facts["keys"]
        self.cases: dict[str, list[int]] = facts["cases"]
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.published = {key: torch.from_numpy(arrays[key]) for key in arrays.files}

    def state(self) -> dict[str, Tensor]:
        """The state dict, each tensor a function of its key."""
        return {key: torch.from_numpy(_weights.tensor_for(key, tuple(shape))) for key, shape in self.keys.items()}

    def clip(self, case: str) -> Tensor:
        """The input of a case."""
        return torch.from_numpy(_weights.clip_for(case, tuple(self.cases[case])))
