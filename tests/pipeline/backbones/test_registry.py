"""What planning knows of the models, and that each line of the registry is what its module declares."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline import backbones
from pipeline.backbones.model import Model
from pipeline.backbones.preprocess import resolve
from pipeline.backbones.registry import BACKBONES, entry, names
from schemas.errors import UsageError
from schemas.preprocess import PreprocessSection


def declared(name: str) -> Model:
    return import_module(BACKBONES[name].module).MODELS[name]


def test_names_are_sorted_and_unknown_ones_are_told_them() -> None:
    assert names() == backbones.names() == tuple(sorted(BACKBONES))
    assert "c3d" in names()
    assert entry("c3d") is BACKBONES["c3d"]
    with pytest.raises(UsageError) as error:
        entry("c4d")
    assert str(error.value) == f"model: nothing is named 'c4d'; this version has {', '.join(names())}"
    with pytest.raises(UsageError, match="nothing is named 'c4d'"):
        backbones.build("c4d", weights="random:0")
    assert backbones.modality("c3d") == "rgb"


def test_identity_of_a_model_s_weights(tmp_path: Path) -> None:
    (tmp_path / "mean.npy").write_bytes(b"mean")
    with_mean = PreprocessSection(mean=str(tmp_path / "mean.npy"))
    plain = backbones.weights_sha256("c3d", "random:0")
    assert backbones.weights_sha256("c3d", "random:0", preprocess=PreprocessSection(mean=(1.0, 2.0, 3.0))) == plain
    assert backbones.weights_sha256("c3d", "random:0", preprocess=with_mean) != plain


@pytest.mark.parametrize("name", BACKBONES)
def test_a_line_is_what_its_module_declares(name: str) -> None:
    model = declared(name)
    assert model.name == name
    assert model.modality == BACKBONES[name].modality
    net = model.open_net(model.num_classes, {}, resolve(name, model.recipes))
    spec = net.spec
    assert (spec.name, spec.modality, spec.num_classes) == (name, model.modality, model.num_classes)
    assert spec.classifier == model.classifier == list(spec.layers)[-1]
    assert spec.layers[spec.classifier] == model.num_classes
    assert spec.default_layer in spec.layers
    assert spec.map_layers == tuple(list(spec.layers)[: len(spec.map_layers)]), "maps come before vectors"
    assert set(net.options) <= set(model.option_names)
    spec.require_input(spec.frames)
    assert all(value.is_meta for value in net.state_dict().values()), "opening a net takes no memory"
    bare = model.open_net(None, {}, resolve(name, model.recipes)).spec
    assert list(spec.layers) == [*bare.layers, spec.classifier]
    assert bare.num_classes is None


@pytest.mark.parametrize("name", BACKBONES)
def test_formats_name_parameters_that_there_are_and_ours_is_one_of_them(name: str) -> None:
    model = declared(name)
    assert len({fmt.format for fmt in model.formats}) >= 1
    assert "reelmill" in {fmt.format for fmt in model.formats}
    for fmt in model.formats:
        has_classifier = f"{model.classifier}.bias" in fmt.keys.values()
        classes = model.num_classes if has_classifier else None
        net = model.open_net(classes, dict(fmt.options), resolve(name, model.recipes))
        wanted = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
        assert sorted([*fmt.keys.values(), *fmt.constants]) == sorted(wanted), fmt.format


@pytest.mark.parametrize("name", BACKBONES)
def test_recipes_have_their_names_and_the_model_s_modality(name: str) -> None:
    model = declared(name)
    for key, recipe in model.recipes.items():
        assert recipe.recipe == key
        assert recipe.modality == model.modality
        assert (recipe.bound_px is not None) == (model.modality == "flow")
        assert recipe.words()


def test_planning_imports_no_torch() -> None:
    program = (
        "import sys; from pipeline import backbones; backbones.weights_sha256('c3d', 'random:0'); "
        "backbones.modality('c3d'); backbones.names(); print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
