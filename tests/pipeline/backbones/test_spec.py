"""What a spec answers about layers and inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import ReelmillError, UsageError

SPEC = BackboneSpec(
    name="net",
    modality="rgb",
    preprocessing=Preprocessing(recipe="own", modality="rgb", fps=None),
    frames=16,
    min_frames=9,
    max_frames=None,
    size=None,
    layers={"conv1": 64, "pool": 128, "logits": 10},
    map_layers=("conv1",),
    default_layer="pool",
    classifier="logits",
    num_classes=10,
)


def test_layers_have_their_lengths() -> None:
    assert [SPEC.require_layer(layer) for layer in SPEC.layers] == [64, 128, 10]
    assert SPEC.require_layer("conv1", dense=True) == 64


def test_layers_that_there_are_not() -> None:
    with pytest.raises(UsageError) as error:
        SPEC.require_layer("fc6")
    assert str(error.value) == "layer: net has no 'fc6'; it has conv1, pool, logits"
    with pytest.raises(UsageError, match="net's pool is a vector, without a map of places; dense features have conv1"):
        SPEC.require_layer("pool", dense=True)


def test_logits_without_a_classifier() -> None:
    bare = replace(SPEC, layers={"conv1": 64, "pool": 128}, num_classes=None)
    assert bare.require_layer("pool") == 128
    with pytest.raises(ReelmillError, match=r"these weights have no classifier \(logits\), so they give features but"):
        bare.require_layer("logits")


@pytest.mark.parametrize(
    ("most", "frames", "takes"),
    [(None, 8, "9 or more"), (64, 8, "9 to 64"), (64, 65, "9 to 64"), (9, 10, "9"), (9, 8, "9")],
)
def test_clips_that_are_too_short_or_too_long(most: int | None, frames: int, takes: str) -> None:
    spec = replace(SPEC, max_frames=most)
    with pytest.raises(UsageError) as error:
        spec.require_input(frames)
    assert str(error.value) == f"net takes clips of {takes} frames, got {frames}"
    spec.require_input(9)
    if most:
        spec.require_input(most)


def test_sizes() -> None:
    SPEC.require_input(16, (17, 400))
    fixed = replace(SPEC, size=(112, 100))
    fixed.require_input(16, (112, 100))
    fixed.require_input(16)
    with pytest.raises(UsageError, match=r"takes frames of 112×100 \(height×width\), got 100×112"):
        fixed.require_input(16, (100, 112))
