"""From weights to a net and back, on a backbone small enough to load in no time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.backbones import build, checkpoints, loading, names, weights_sha256
from pipeline.backbones.checkpoints import KeyMap
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import ReelmillError, UsageError

KEYS = {f"{module}.{kind}": f"{module}.{kind}" for module in ("body", "head") for kind in ("weight", "bias")}


class Tiny(nn.Module):
    def __init__(self, num_classes: int | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, num_classes) if num_classes is not None else None
        self.options = {"pool5": options.get("pool5", "ceil")}
        self.spec = BackboneSpec(
            name="tiny",
            frames=1,
            size=(1, 1),
            resize=(1, 1),
            crop_at=(0, 0),
            colour="RGB",
            value_range=(0, 255),
            mean=(0, 0, 0),
            mean_source="none",
            std=(1, 1, 1),
            layers={"body": 4},
            default_layer="body",
            classifier="head",
            num_classes=num_classes,
        )


@pytest.fixture
def tiny() -> ModuleType:
    """A backbone file, as the registry imports one."""
    module = ModuleType("tiny")

    def open_net(num_classes: int | None, options: Mapping[str, Any]) -> Tiny:
        with torch.device("meta"):
            return Tiny(num_classes, options)

    def init_random(net: Tiny, seed: int) -> None:
        for value in net.parameters():
            value.uniform_(generator=torch.Generator().manual_seed(seed))

    facts = {"NUM_CLASSES": 5, "CLASSIFIER": "head", "FORMATS": (KeyMap("own", KEYS, "a note"),)}
    vars(module).update(facts, open_net=open_net, init_random=init_random)
    return module


def load(tiny: ModuleType, weights: str | Path, **options: Any) -> Any:
    return loading.load("tiny", tiny, weights=str(weights), options=options)


def test_saved_and_loaded(tiny: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    net = load(tiny, "random:1", pool5="symmetric")
    assert not net.training
    assert not net.body.weight.requires_grad
    loading.save(net, path)
    back = load(tiny, path)
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in net.state_dict().items())
    assert back.options == {"pool5": "symmetric"}, "a net comes back as it was saved"
    assert back.weights == checkpoints.WeightsReport(str(path), "own", weights_sha256(str(path)), (), ("a note",))
    with pytest.raises(UsageError, match="was saved with 'symmetric', got 'ceil'"):
        load(tiny, path, pool5="ceil")
    loading.save(net, tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_classes_come_from_the_file(tiny: ModuleType, tmp_path: Path) -> None:
    state = {key: torch.zeros(9, 4) if key == "head.weight" else torch.zeros(9) for key in KEYS if "head" in key}
    body = {"body.weight": torch.ones(4, 3, dtype=torch.float16), "body.bias": torch.ones(4)}
    torch.save({**body, **state}, tmp_path / "nine.pth")
    net = load(tiny, tmp_path / "nine.pth")
    assert net.spec.num_classes == 9
    assert net.body.weight.dtype == torch.float32
    torch.save(body, tmp_path / "none.pth")
    bare = load(tiny, tmp_path / "none.pth")
    assert bare.spec.num_classes is None
    with pytest.raises(ReelmillError, match="no classifier"):
        bare.spec.require_layer("head")


def test_wrong_shape_names_key_and_sizes(tiny: ModuleType, tmp_path: Path) -> None:
    torch.save({"body.weight": torch.ones(4, 7), "body.bias": torch.ones(4)}, tmp_path / "a.pth")
    with pytest.raises(ReelmillError, match=r"body\.weight has shape \(4, 7\), but body\.weight takes \(4, 3\)"):
        load(tiny, tmp_path / "a.pth")


def test_random_seeds(tiny: ModuleType) -> None:
    one, same, other = (load(tiny, f"random:{seed}") for seed in (1, 1, 2))
    assert torch.equal(one.body.weight, same.body.weight)
    assert not torch.equal(one.body.weight, other.body.weight)
    assert one.weights.format == "random"


def test_build_refuses_unknown_models() -> None:
    assert names() == ("c3d",)
    with pytest.raises(UsageError, match="nothing is named 'c4d'; this version has c3d"):
        build("c4d", weights="random:0")
