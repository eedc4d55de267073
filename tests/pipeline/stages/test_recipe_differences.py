"""A sentence for each way in which stored frames are not what a recipe makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_backbones import MODELS, RECIPES

from pipeline.backbones.model import Model
from pipeline.backbones.preprocess import Preprocessing, resolve
from pipeline.stages.clip_inputs import Upstream
from pipeline.stages.recipe_differences import deviations
from schemas.config import Clips, Flow
from schemas.preprocess import PreprocessSection

DEEPMIND = Preprocessing(recipe="deepmind", modality="rgb", fps=25, short_side=256, crop=(224, 224), range=(-1.0, 1.0))
CAFFE = Preprocessing(recipe="caffe", modality="rgb", fps=None, resize=(128, 171), crop=(112, 112))
FLOW = replace(RECIPES["flow"], recipe="deepmind", fps=25, resize=None, short_side=256)


def found(recipe: Preprocessing, section: dict[str, Any] | None = None, *, frames: int = 8, **clips: Any) -> list[str]:
    """The sentences on clips of a recipe's own rate and length, but for `clips`."""
    stored = Clips.model_validate({"frames": 8, "fps": recipe.fps or 5, **clips})
    model = replace(MODELS["small_rgb"], recipes={recipe.recipe: recipe})
    return sentences(model, Upstream("clips/c", "", stored.frames, stored.fps, stored), stored, section, frames)


def sentences(
    model: Model, upstream: Upstream, sampling: Clips, section: dict[str, Any] | None = None, frames: int = 8
) -> list[str]:
    used = resolve(model.name, model.recipes, PreprocessSection.model_validate(section or {}))
    net = model.open_net(5, {}, used)
    return deviations(net.spec, model, upstream, sampling, frames=frames)


@pytest.mark.parametrize(
    ("recipe", "clips"),
    [
        (DEEPMIND, {}),
        (DEEPMIND, {"short_side": 256}),
        (DEEPMIND, {"short_side": 256, "crop": (224, 224)}),
        (CAFFE, {"resize": (128, 171)}),
        (CAFFE, {"fps": 12}),
    ],
)
def test_what_the_recipe_makes_has_none(recipe: Preprocessing, clips: dict[str, Any]) -> None:
    assert found(recipe, **clips) == []


@pytest.mark.parametrize(
    ("recipe", "clips", "sentence"),
    [
        (DEEPMIND, {"fps": 5}, "clips/c has 5 frames a second, and deepmind takes 25"),
        (
            DEEPMIND,
            {"resize": (256, 340)},
            "the frames of clips/c were brought to 256×340 (height×width), aspect ignored, and deepmind brings the "
            "video's own to short side 256, aspect kept",
        ),
        (
            CAFFE,
            {"short_side": 256},
            "the frames of clips/c were brought to short side 256, aspect kept, and caffe brings the video's own to "
            "128×171 (height×width), aspect ignored",
        ),
        (
            DEEPMIND,
            {"short_side": 256, "filter": "area"},
            "the frames of clips/c were resized by box average, and deepmind takes bilinear without antialias",
        ),
        (
            replace(DEEPMIND, long_side="floor"),
            {"short_side": 256},
            "the other side of clips/c was brought to the nearest even number, and deepmind takes it rounded down",
        ),
        (DEEPMIND, {"crop": (300, 300)}, "the frames of clips/c were cropped to 300×300 before any resize"),
    ],
)
def test_stored_frames_that_differ(recipe: Preprocessing, clips: dict[str, Any], sentence: str) -> None:
    assert found(recipe, **clips) == [sentence]


def test_another_length() -> None:
    assert found(DEEPMIND, frames=16) == ["16 frames enter small_rgb at once, and the published model takes 8"]


def test_a_recipe_that_resizes_nothing() -> None:
    as_it_is = replace(DEEPMIND, short_side=None)
    assert found(as_it_is, short_side=256) == [
        "the frames of clips/c were brought to short side 256, aspect kept, and deepmind leaves them as they are in "
        "the video"
    ]


def test_a_size_that_the_config_changes_is_said_once() -> None:
    changed = "preprocess.short_side is 64 here, and 256 in deepmind"
    assert found(DEEPMIND, {"short_side": 64}, short_side=64) == [changed]
    assert found(DEEPMIND, {"resize": "none"}, short_side=64) == [changed.replace("64", "none")]


def test_what_the_config_changes() -> None:
    assert found(DEEPMIND, {"colour": "BGR", "filter": "area"}) == [
        "preprocess.filter is area here, and bilinear in deepmind",
        "preprocess.colour is BGR here, and RGB in deepmind",
    ]
    assert found(DEEPMIND, {"recipe": "deepmind"}) == []


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        ({"bound": 20}, []),
        ({"bound": 32}, ["flow/f holds 256 levels of ±32 px, and deepmind cuts at ±20 px"]),
        ({"bound": 32, "encoding": "npy"}, []),
    ],
)
def test_flow_of_another_bound(flow: dict[str, Any], expected: list[str]) -> None:
    clips = Clips(frames=8, fps=25, short_side=256)
    settings = Flow.model_validate({"clips": "c", **flow})
    model = replace(MODELS["small_flow"], recipes={"deepmind": FLOW})
    upstream = Upstream("flow/f", "", 8, 25.0, settings)
    assert sentences(model, upstream, settings.sampling(clips)) == expected
