"""Which model a file is of: by keys and shapes, whoever is asked for."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny_models import ELSEWHERE, OURS, elsewhere, register, tiny

from pipeline.backbones.checkpoint_file import Checkpoint
from pipeline.backbones.checkpoints import OtherWeightsError
from pipeline.backbones.preprocess import resolve
from pipeline.backbones.recognise import of_another_model, recognise
from pipeline.backbones.registry import BACKBONES
from schemas.errors import ReelmillError

HERE = Path("a.pth")
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "backbones"


def test_all_models_that_take_a_file_in_the_registry_s_order(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny("second"), tiny("flow", "flow"), tiny("first"))
    found = recognise(Checkpoint(HERE, elsewhere(9)))
    assert [one.model.name for one in found] == ["second", "first"]
    assert found[0].matched.keymap.format == "elsewhere"
    assert found[0].net.spec.num_classes == 9
    assert all(value.is_meta for value in found[0].net.parameters())
    assert [one.model.name for one in recognise(Checkpoint(HERE, elsewhere(modality="flow")))] == ["flow"]


def test_the_variant_is_that_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    ours = {name: elsewhere()[key] for key, name in zip(ELSEWHERE, OURS, strict=True)}
    metadata = {"reelmill": '{"model": "tiny", "options": {"pool": "max"}}'}
    assert recognise(Checkpoint(HERE, ours, metadata=metadata))[0].net.options == {"pool": "max"}
    assert recognise(Checkpoint(HERE, ours))[0].net.options == {"pool": "mean"}


def test_what_nobody_takes_is_named_by_its_looks() -> None:
    state = {"layer4.0.conv1.weight": torch.zeros(2), "fc.weight": torch.zeros(2)}
    with pytest.raises(OtherWeightsError) as error:
        recognise(Checkpoint(HERE, state))
    assert str(error.value) == (
        "a.pth: no model here takes these weights; it looks like ResNet weights; "
        "the keys begin layer4.0.conv1.weight, fc.weight"
    )


def test_broken_weights_of_a_known_model_say_what_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny("flow", "flow"), tiny())  # the flow net's shapes are the first thing that is wrong
    state = elsewhere()
    state["net.fc.bias"][1] = float("inf")
    with pytest.raises(ReelmillError, match=r"^a\.pth: net\.fc\.bias holds NaN or Inf"):
        recognise(Checkpoint(HERE, state))
    lacking = {key: value for key, value in elsewhere().items() if key != "net.stem.bn.bias"}
    with pytest.raises(ReelmillError, match=r"weights in the format of elsewhere, but without net\.stem\.bn\.bias"):
        recognise(Checkpoint(HERE, lacking))
    narrow = {**elsewhere(), "net.stem.conv.weight": torch.zeros(4, 9, 3, 3, 3)}
    with pytest.raises(ReelmillError, match=r"net\.stem\.conv\.weight has shape \(4, 9, 3, 3, 3\)"):
        recognise(Checkpoint(HERE, narrow))


def test_another_model_than_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tiny())
    found = of_another_model(Checkpoint(HERE, elsewhere()), "c3d")
    assert str(found) == "a.pth: not c3d weights, but tiny weights (elsewhere): use model: tiny"
    assert of_another_model(Checkpoint(HERE, elsewhere()), "tiny") is None
    assert of_another_model(Checkpoint(HERE, {"x": torch.zeros(1)}), "c3d") is None


def published(name: str) -> dict[str, torch.Tensor]:
    """A published project's state dict by keys and shapes; the arrays are views of one number."""
    keys = json.loads((GOLDEN / f"{name}.json").read_text())["keys"]
    return {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}


@pytest.mark.parametrize(
    ("name", "asked", "whose"),
    [
        ("i3d_piergiaj_rgb", "c3d", "i3d_rgb"),
        ("i3d_piergiaj_rgb", "i3d_flow", "i3d_rgb"),
        ("i3d_deepmind_flow", "i3d_rgb", "i3d_flow"),
        ("i3d_hassony2_flow", "i3d_r50", "i3d_flow"),
        ("pytorchvideo_i3d_r50", "i3d_rgb", "i3d_r50"),
        ("mmaction2_i3d_r50_nl_gaussian", "efficientnet_lite0", "i3d_r50"),
    ],
)
def test_published_weights_given_to_another_model(name: str, asked: str, whose: str) -> None:
    found = str(of_another_model(Checkpoint(HERE, published(name)), asked))
    assert found.startswith(f"a.pth: not {asked} weights, but {whose} weights (")
    assert found.endswith(f"): use model: {whose}")


@pytest.mark.parametrize("name", BACKBONES)
def test_each_registered_model_knows_its_own_weights(name: str) -> None:
    """Shapes alone: the arrays are views of one number."""
    model = import_module(BACKBONES[name].module).MODELS[name]
    net = model.open_net(model.num_classes, {}, resolve(name, model.recipes))
    state = {
        key: torch.zeros(()).expand(value.shape)
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert name in [one.model.name for one in recognise(Checkpoint(HERE, state))]
