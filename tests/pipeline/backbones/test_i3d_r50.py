"""I3D-R50: layers and their shapes, variants, non-local blocks that start as the identity, options, recipes.

That its numbers are the published ones is in test_i3d_r50_published.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.backbones import build, save
from pipeline.backbones.i3d_r50 import MODELS, VARIANTS, Bottleneck
from pipeline.backbones.network import Network
from pipeline.backbones.nonlocal_block import NonLocal
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import PreprocessSection

MODEL = MODELS["i3d_r50"]


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=list(VARIANTS))
def net(request: pytest.FixtureRequest) -> Network:
    return build("i3d_r50", weights="random:0", options={"variant": request.param})


def clip(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.5


def on_meta(**options: str) -> Network:
    recipe = next(iter(MODEL.recipes.values()))
    return MODEL.open_net(400, options, recipe).eval()


@pytest.mark.parametrize(
    ("variant", "frames", "px", "shapes"),
    [
        ("8x8", 8, 256, [(8, 64), (8, 64), (4, 32), (4, 16), (4, 8)]),  # the published sizes
        ("32x2", 32, 224, [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("8x8", 79, 112, [(79, 28), (79, 28), (39, 14), (39, 7), (39, 4)]),
        ("32x2", 79, 112, [(20, 28), (20, 28), (10, 14), (10, 7), (10, 4)]),
        ("8x8", 2, 224, [(2, 56), (2, 56), (1, 28), (1, 14), (1, 7)]),  # the fewest frames
        ("32x2", 5, 224, [(2, 56), (2, 56), (1, 28), (1, 14), (1, 7)]),
    ],
)
def test_layers_and_their_shapes(variant: str, frames: int, px: int, shapes: list[tuple[int, int]]):
    net = on_meta(variant=variant)
    x = torch.empty(2, 3, frames, px, px, device="meta")
    found = {name: tuple(blob.shape) for name, blob in net.trunk(x)}
    channels = [64, 256, 512, 1024, 2048]
    names = ["stem", "res2", "res3", "res4", "res5"]
    expected = [(2, c, t, side, side) for c, (t, side) in zip(channels, shapes, strict=True)]
    assert found == dict(zip(names, expected, strict=True))
    assert net.spec.layers == {**dict(zip(names, channels, strict=True)), "avgpool": 2048, "logits": 400}
    assert net.spec.map_layers == tuple(names)
    assert net.spec.default_layer == "avgpool"


def test_vectors_and_maps_of_every_layer(net: Network):
    x = clip(2, 3, 5, 32, 48)
    for layer, width in net.spec.layers.items():
        vector = net.features(x, layer=layer)
        assert vector.shape == (2, width), layer
        if layer in net.spec.map_layers:
            dense = net.features(x, layer=layer, dense=True)
            torch.testing.assert_close(vector, dense.mean((2, 3, 4)))
    torch.testing.assert_close(net(x), net.features(x, layer="logits"))


def test_published_frames_and_the_fewest(net: Network):
    published = {"8x8": (8, 2), "32x2": (32, 5)}[str(net.options["variant"])]
    assert (net.spec.frames, net.spec.min_frames) == published
    assert net(clip(1, 3, net.spec.min_frames, 32, 32)).isfinite().all()
    with pytest.raises(UsageError, match=rf"takes clips of {net.spec.min_frames} or more frames, got"):
        net(clip(1, 3, net.spec.min_frames - 1, 32, 32))


@pytest.mark.parametrize("shape", [(4, 7, 7), (4, 8, 8), (5, 7, 9), (1, 7, 7), (8, 4, 4), (2, 8, 5)])
def test_head_pools_windows_in_the_8x8_variant_and_the_map_in_the_other(shape: tuple[int, int, int]):
    blob = clip(2, 2048, *shape)
    windows = blob
    for dim, largest in zip((2, 3, 4), (4, 7, 7), strict=True):
        windows = windows.unfold(dim, min(largest, blob.shape[dim]), 1).mean(-1)
    expected = {"8x8": windows.mean((2, 3, 4)), "32x2": blob.mean((2, 3, 4))}
    for variant, pooled in expected.items():
        torch.testing.assert_close(on_meta(variant=variant).bridge(blob), pooled, atol=1e-6, rtol=0)
    is_plain = all(size <= largest for size, largest in zip(shape, (4, 7, 7), strict=True)) or shape == (8, 4, 4)
    if not is_plain:
        assert (expected["8x8"] - expected["32x2"]).abs().max() > 1e-3


# ---------------------------------------------------------------- non-local blocks


@pytest.mark.parametrize(
    "options",
    [
        {"non_local": "embedded"},
        {"non_local": "embedded", "variant": "32x2"},
        {"non_local": "embedded", "affinity": "softmax"},
        {"non_local": "gaussian"},
    ],
)
def test_fresh_non_local_blocks_change_nothing(options: dict[str, str]):
    net = build("i3d_r50", weights="random:3", options=options)
    x = clip(1, 3, 5, 32, 48)
    fresh = net(x)
    blocks = [module for module in net.modules() if isinstance(module, Bottleneck)]
    learnt = [block.non_local for block in blocks]
    for block in blocks:
        block.non_local = nn.Identity()
    plain = net(x)
    assert torch.equal(fresh, plain)
    for block, non_local in zip(blocks, learnt, strict=True):
        block.non_local = non_local
        if isinstance(non_local, NonLocal):
            non_local.out.bn.weight.fill_(1)
    assert not torch.allclose(net(x), plain, atol=1e-3)


def test_where_the_non_local_blocks_are():
    keys = on_meta(non_local="embedded").state_dict()
    blocks = {key.split(".non_local")[0] for key in keys if ".non_local." in key}
    assert blocks == {"res3.1", "res3.3", "res4.1", "res4.3", "res4.5"}
    assert not any("theta" in key or "phi" in key for key in on_meta(non_local="gaussian").state_dict())
    assert not any("non_local" in key for key in on_meta().state_dict())


def test_affinity_follows_the_variant():
    assert on_meta(non_local="embedded").options["affinity"] == "scaled_softmax"
    assert on_meta(non_local="embedded", variant="32x2").options["affinity"] == "dot_product"
    assert "affinity" not in on_meta(non_local="gaussian").options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "16x4"}, "model_options.variant: write one of 8x8, 32x2; got '16x4'"),
        ({"non_local": True}, "model_options.non_local: write one of none, embedded, gaussian; got True"),
        (
            {"non_local": "embedded", "affinity": "gaussian"},
            "model_options.affinity: write one of scaled_softmax, softmax, dot_product; got 'gaussian'",
        ),
        ({"affinity": "softmax"}, "model_options.affinity: this is for non_local: embedded, and the net's is none"),
    ],
)
def test_options_that_can_not_be(options: dict[str, str], sentence: str):
    with pytest.raises(UsageError) as error:
        build("i3d_r50", weights="random:0", options=options)
    assert str(error.value) == sentence


# ---------------------------------------------------------------- recipes, files, random weights


def test_recipe_follows_the_variant_unless_one_is_named(net: Network):
    variant = str(net.options["variant"])
    assert net.spec.preprocessing.recipe == {"8x8": "pytorchvideo", "32x2": "mmaction2"}[variant]
    named = PreprocessSection(recipe="mmaction2")
    other = build("i3d_r50", weights="random:0", options={"variant": "8x8"}, preprocess=named)
    assert other.spec.preprocessing.recipe == "mmaction2"


def test_recipes_as_numbers():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(1, 1, 1, 1, 3)  # R, G, B
    theirs = {
        "pytorchvideo": [(value / 255 - 0.45) / 0.225 for value in (0, 128, 255)],
        "mmaction2": [(0 - 123.675) / 58.395, (128 - 116.28) / 57.12, (255 - 103.53) / 57.375],
    }
    for name, expected in theirs.items():
        x = MODEL.recipes[name].normalise(pixels).flatten()
        torch.testing.assert_close(x, torch.tensor(expected), atol=1e-5, rtol=0)
    # int(floor(341.33)) and int(426.67 + .5) of theirs, for 640×480 and 640×384
    assert MODEL.recipes["pytorchvideo"].target(480, 640) == (256, 341)
    assert MODEL.recipes["mmaction2"].target(384, 640) == (256, 427)
    assert MODEL.recipes["pytorchvideo"].target(384, 640) == (256, 426)
    assert [recipe.fps for recipe in MODEL.recipes.values()] == [3.75, 15.0]


def test_saved_weights_keep_variant_and_blocks(tmp_path: Path):
    options = {"variant": "32x2", "non_local": "embedded", "affinity": "softmax", "num_classes": 7}
    first = build("i3d_r50", weights="random:5", options=options)
    path = tmp_path / "i3d.safetensors"
    save(first, path)
    second = build("i3d_r50", weights=str(path))
    assert second.options == {"variant": "32x2", "non_local": "embedded", "affinity": "softmax"}
    assert second.spec == first.spec
    state = second.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in first.state_dict().items())
    with pytest.raises(UsageError, match="is of '32x2', got '8x8'"):
        build("i3d_r50", weights=str(path), options={"variant": "8x8"})


def test_weights_without_classifier_give_features(tmp_path: Path):
    path = tmp_path / "backbone.pth"
    whole = build("i3d_r50", weights="random:5")
    torch.save({key: value for key, value in whole.state_dict().items() if not key.startswith("logits")}, path)
    net = build("i3d_r50", weights=str(path))
    x = clip(1, 3, 4, 32, 32)
    torch.testing.assert_close(net.features(x), whole.features(x))
    with pytest.raises(ReelmillError, match="no classifier"):
        net(x)


def test_random_weights_are_those_of_the_seed():
    first, again, other = (build("i3d_r50", weights=f"random:{seed}") for seed in (1, 1, 2))
    state = first.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert not torch.allclose(state["res5.2.conv3.conv.weight"], other.state_dict()["res5.2.conv3.conv.weight"])
    values = first.features(clip(1, 3, 4, 64, 64))
    assert 0.01 < values.std() < 100  # sixteen residuals neither vanish nor run away
