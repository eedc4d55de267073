"""The key maps of I3D-R50 against the state dicts of the published code, key by key and shape by shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from goldens import Golden

from pipeline.backbones.checkpoint_file import Checkpoint
from pipeline.backbones.checkpoints import Matched, match
from pipeline.backbones.i3d_r50 import MODELS
from pipeline.backbones.i3d_r50_keys import FORMATS
from pipeline.backbones.network import Network
from schemas.errors import ReelmillError

MODEL = MODELS["i3d_r50"]
PATH = Path("i3d.pth")
PUBLISHED = [
    "pytorchvideo_i3d_r50",
    "mmaction2_i3d_r50",
    "mmaction2_i3d_r50_nl_dot_product",
    "mmaction2_i3d_r50_nl_embedded_gaussian",
    "mmaction2_i3d_r50_nl_gaussian",
]


def shapes(name: str) -> dict[str, torch.Tensor]:
    """A published state dict of zeros that take no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in Golden(name).keys.items()}


def read(tensors: dict[str, torch.Tensor]) -> Matched:
    return match(Checkpoint(PATH, tensors), model="i3d_r50", formats=FORMATS, classifier=MODEL.classifier)


def opened(matched: Matched) -> Network:
    """The net that such a file is of, on the meta device."""
    recipe = next(iter(MODEL.recipes.values()))
    return MODEL.open_net(matched.num_classes(MODEL.classifier), matched.keymap.options, recipe)


def parameters(net: Network) -> dict[str, torch.Tensor]:
    return {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}


def fill(matched: Matched) -> None:
    matched.fill(opened(matched))


def check_shapes(matched: Matched) -> None:
    found = {key: value.shape for key, value in matched.state.items()}
    assert found == {key: value.shape for key, value in parameters(opened(matched)).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_fills_a_parameter_or_is_ignored_by_name(name: str):
    tensors = shapes(name)
    matched = read(tensors)
    assert matched.unused == ()
    assert len(matched.state) + sum(matched.ignored.values()) == len(tensors)
    assert len(set(matched.keymap.keys.values())) == len(matched.keymap.keys)
    check_shapes(matched)


@pytest.mark.parametrize("name", PUBLISHED[1:])
def test_backbone_alone_is_recognised_without_classes(name: str):
    whole = shapes(name)
    prefix = "backbone."
    matched = read({key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)})
    assert "mmaction2 backbone" in matched.keymap.format
    assert matched.keymap.options == read(whole).keymap.options
    assert matched.num_classes(MODEL.classifier) is None
    check_shapes(matched)


@pytest.mark.parametrize("name", PUBLISHED)
def test_ours_keeps_the_kind_of_blocks(name: str):
    theirs = read(shapes(name))
    ours = read({key: torch.zeros(()).expand(value.shape) for key, value in parameters(opened(theirs)).items()})
    assert ours.keymap.format.startswith("reelmill")
    assert ours.keymap.options["non_local"] == theirs.keymap.options["non_local"]
    assert "variant" not in ours.keymap.options  # it stands beside the weights


def test_other_class_count():
    tensors = shapes("mmaction2_i3d_r50")
    tensors |= {"cls_head.fc_cls.weight": torch.zeros(101, 2048), "cls_head.fc_cls.bias": torch.zeros(101)}
    check_shapes(read(tensors))


def test_missing_key_is_named():
    tensors = shapes("pytorchvideo_i3d_r50")
    del tensors["blocks.3.res_blocks.2.branch2.norm_b.running_var"]
    with pytest.raises(ReelmillError, match=r"without blocks\.3\.res_blocks\.2\.branch2\.norm_b\.running_var"):
        read(tensors)


def test_heavy_config_of_mmaction2_is_refused():
    """The same keys, but every first convolution sees three frames."""
    tensors = shapes("mmaction2_i3d_r50")
    tensors["backbone.layer2.1.conv1.conv.weight"] = torch.zeros(128, 512, 3, 1, 1)
    with pytest.raises(ReelmillError, match=r"layer2\.1\.conv1\.conv\.weight has shape \(128, 512, 3, 1, 1\), but"):
        fill(read(tensors))


def test_c2d_of_pytorchvideo_is_refused():
    """The same keys, but a stem of one frame."""
    tensors = shapes("pytorchvideo_i3d_r50")
    tensors["blocks.0.conv.weight"] = torch.zeros(64, 3, 1, 7, 7)
    with pytest.raises(ReelmillError, match=r"blocks\.0\.conv\.weight has shape \(64, 3, 1, 7, 7\), but stem"):
        fill(read(tensors))


def test_half_of_a_non_local_block_is_refused():
    tensors = shapes("mmaction2_i3d_r50_nl_dot_product")
    del tensors["backbone.layer2.1.non_local_block.theta.conv.weight"]
    with pytest.raises(ReelmillError, match="non_local_block"):
        read(tensors)
