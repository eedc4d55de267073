"""From stored frames to the numbers that enter a net, number by number; and every way to ask for it wrongly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from pipeline.backbones.preprocess import MeanVolume, Preprocessing, read_mean, resolve
from pipeline.flow import dequantise
from pipeline.video.transform import short_side_size
from schemas.errors import ReelmillError, UsageError
from schemas.preprocess import Preprocess, PreprocessSection

RGB = Preprocessing(recipe="rgb", modality="rgb", fps=25, short_side=256, crop=(224, 224), range=(-1.0, 1.0))
FLOW = Preprocessing(recipe="deepmind", modality="flow", fps=25, short_side=256, crop=(224, 224), bound_px=20.0)
BOTH = {"rgb": RGB, "other": Preprocessing(recipe="other", modality="rgb", fps=None, resize=(128, 171))}


def frames(height: int, width: int, num_frames: int = 2) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def recipe(**changes: Any) -> Preprocessing:
    return Preprocessing(**{"recipe": "own", "modality": "rgb", "fps": None, **changes})


def normalised(of: Preprocessing, clip: np.ndarray) -> np.ndarray:
    """(T, H, W, C) of one clip."""
    return of.normalise(torch.from_numpy(clip[None]))[0].permute(1, 2, 3, 0).numpy()


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("short_side", [128, 256])
def test_frames_are_the_same_size_whether_clips_or_a_recipe_resizes_them(short_side: int) -> None:
    short = 512  # of which many long sides give a tie between two even numbers
    for long in range(short + 1, 1300):
        target = replace(RGB, short_side=short_side).target(short, long)
        assert target == short_side_size(short, long, short_side), long


@pytest.mark.parametrize(
    ("stored", "even", "floor", "rounded"),
    [
        ((480, 640), (256, 342), (256, 341), (256, 341)),  # 341.33
        ((640, 480), (342, 256), (341, 256), (341, 256)),
        ((360, 636), (256, 452), (256, 452), (256, 452)),  # 452.27
        ((720, 1277), (256, 454), (256, 454), (256, 454)),  # 454.04
        ((300, 454), (256, 388), (256, 387), (256, 387)),  # 387.41
        ((300, 455), (256, 388), (256, 388), (256, 388)),  # 388.27
        ((400, 493), (256, 316), (256, 315), (256, 316)),  # 315.52
    ],
)
def test_the_other_side_of_a_short_side(
    stored: tuple[int, int], even: tuple[int, int], floor: tuple[int, int], rounded: tuple[int, int]
) -> None:
    for rule, expected in (("even", even), ("floor", floor), ("round", rounded)):
        of = recipe(short_side=256, long_side=rule)
        assert of.target(*stored) == expected
        assert of.fit(frames(*stored, 1)).shape == (1, *expected, 3)


def test_frames_that_have_the_size_are_not_touched() -> None:
    for of, size in ((RGB, (256, 340)), (RGB, (340, 256)), (RGB, (224, 224)), (recipe(), (31, 17))):
        stored = frames(*size)
        assert of.fit(stored) is stored
    assert recipe(resize=(128, 171), crop=(112, 112)).target(112, 112) == (112, 112)
    assert recipe(resize=(128, 171), crop=(112, 112)).target(112, 113) == (128, 171)


def test_each_filter_is_the_one_it_is_named_after() -> None:
    stored = frames(120, 90)
    by = {how: recipe(resize=(40, 45), filter=how).fit(stored)[1] for how in ("bilinear", "area", "antialias")}
    assert np.array_equal(by["bilinear"], cv2.resize(stored[1], (45, 40), interpolation=cv2.INTER_LINEAR))
    assert np.array_equal(by["area"], cv2.resize(stored[1], (45, 40), interpolation=cv2.INTER_AREA))
    assert np.array_equal(by["antialias"], Image.fromarray(stored[1]).resize((45, 40), Image.Resampling.BILINEAR))
    # 120 -> 40 and 90 -> 45 are whole: box averages by hand
    boxes = stored[1].reshape(40, 3, 45, 2, 3).mean((1, 3))
    assert np.abs(by["area"] - boxes).max() <= 0.5 + 1e-9
    assert not np.array_equal(by["bilinear"], by["antialias"])


def test_area_is_bilinear_where_frames_grow() -> None:
    stored = frames(20, 30)
    grown = recipe(resize=(40, 45), filter="area").fit(stored)
    assert np.array_equal(grown[0], cv2.resize(stored[0], (45, 40), interpolation=cv2.INTER_LINEAR))


def test_frames_that_can_t_be_used() -> None:
    with pytest.raises(ReelmillError) as error:
        recipe(crop=(224, 200)).fit(frames(230, 199))
    assert str(error.value) == (
        "a crop of 224×200 (height×width) does not fit inside frames of 230×199; store larger clips, or set "
        "preprocess.short_side, resize or crop"
    )
    with pytest.raises(ReelmillError, match=r"rgb frames are \(T, H, W, 3\), got \(2, 8, 8, 2\)"):
        recipe().fit(np.zeros((2, 8, 8, 2), np.uint8))
    with pytest.raises(ReelmillError, match=r"flow frames are \(T, H, W, 2\), got \(2, 8, 8, 3\)"):
        FLOW.fit(frames(8, 8))


def test_flow_is_never_resized() -> None:
    field = np.zeros((2, 256, 340, 2), np.uint8)
    assert FLOW.fit(field) is field
    with pytest.raises(ReelmillError) as error:
        FLOW.fit(np.zeros((2, 240, 320, 2), np.uint8))
    assert str(error.value) == (
        "deepmind computes flow on frames of short_side: 256, and this flow is 240×320 (height×width): flow is not "
        "resized after it was computed; set short_side: 256 in its flow section, or preprocess.resize: none here"
    )
    with pytest.raises(ReelmillError, match=r"set resize: \[128, 171\] in its flow section"):
        resolve("m", {"f": FLOW}, PreprocessSection(resize=(128, 171))).fit(field)
    unresized = resolve("m", {"f": FLOW}, PreprocessSection(resize="none"))
    small = np.zeros((2, 240, 320, 2), np.uint8)
    assert unresized.fit(small) is small


# ---------------------------------------------------------------- numbers


def test_range_minus_one_to_one_is_deepmind_s() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    x = normalised(RGB, levels)
    expected = levels.astype(np.float64) / 255 * 2 - 1
    np.testing.assert_allclose(x, expected, atol=2e-7)
    assert (x.min(), x.max()) == (-1.0, 1.0)
    assert x.dtype == np.float32


def test_each_step_in_its_order() -> None:
    """Colours, then range, then mean, then std: the mean is in units of the range, in the order of the colours."""
    of = recipe(colour="BGR", range=(0.0, 1.0), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    stored = frames(5, 7)
    x = normalised(of, stored)
    for channel in range(3):
        of_colour = stored[..., 2 - channel].astype(np.float64)
        expected = (of_colour / 255 - (0.1, 0.2, 0.3)[channel]) / (0.5, 0.25, 2.0)[channel]
        np.testing.assert_allclose(x[..., channel], expected, atol=2e-6)


def test_rgb_is_not_turned() -> None:
    stored = frames(5, 7)
    assert np.array_equal(normalised(recipe(), stored), stored)


def test_a_mean_volume_is_subtracted_where_the_pixel_is() -> None:
    volume = np.random.default_rng(0).uniform(60, 130, (2, 5, 7, 3)).astype(np.float32)
    of = recipe(colour="BGR", crop=(5, 7), mean=MeanVolume("mean.npy", volume))
    stored = frames(5, 7)
    np.testing.assert_allclose(normalised(of, stored), stored[..., ::-1].astype(np.float32) - volume, atol=1e-5)
    assert of.facts()["mean"] == "volume mean.npy"
    assert "minus the mean volume mean.npy" in of.words()


def test_batches_are_channels_last_in_memory_and_clip_by_clip_the_same() -> None:
    both = torch.from_numpy(np.stack([frames(6, 8), frames(6, 8)[::-1]]))
    x = RGB.normalise(both)
    assert x.shape == (2, 3, 2, 6, 8)
    assert x.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(x[1:], RGB.normalise(both[1:]))


def test_flow_in_px_is_cut_at_the_bound_and_divided_by_it() -> None:
    px = np.array([[-300, -20, -5], [0, 10, 20.5]], np.float32)[None, ..., None].repeat(2, axis=3)  # 1×2×3×2
    x = FLOW.normalise(torch.from_numpy(px[None]))
    assert x.shape == (1, 2, 1, 2, 3)
    expected = torch.tensor([[-1.0, -1.0, -0.25], [0.0, 0.5, 1.0]])
    assert torch.equal(x[0, 0, 0], expected)
    assert torch.equal(x[0, 1, 0], expected)
    half = FLOW.normalise(torch.from_numpy(px.astype(np.float16)[None]))
    assert half.dtype == torch.float32


def test_flow_as_levels_means_what_it_was_stored_with() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 8, 2)
    meaning = dequantise(np.arange(256, dtype=np.uint8), bound=32.0)  # wider than the model's ±20
    x = FLOW.normalise(torch.from_numpy(levels[None]), meaning=torch.from_numpy(meaning))
    expected = np.clip(levels.astype(np.float64) * 64 / 255 - 32, -20, 20) / 20
    np.testing.assert_allclose(x[0].permute(1, 2, 3, 0).numpy(), expected, atol=1e-6)


def test_rounded_flow_goes_through_the_level_that_128_and_the_px_give() -> None:
    """video_features: clamp to ±20, 128 + 255 / 40 px rounded, then back to -1 to 1 by way of 255 levels."""
    px = np.linspace(-19.99, 19.99, 2002).astype(np.float32).reshape(1, 1, 1001, 2)
    x = normalised(replace(FLOW, is_rounded=True), px)
    exact = 128 + 255 / 40 * px.astype(np.float64)
    levels = np.rint(exact)
    is_clear = np.abs(levels - exact) < 0.499  # float32 may round a half either way
    np.testing.assert_allclose(x[is_clear], (2 * levels / 255 - 1)[is_clear], atol=1e-6)
    assert is_clear.mean() > 0.99
    known = np.array([0, 0, -90, 90], np.float32).reshape(1, 1, 2, 2)  # levels 128, 0.5 and 255.5: halves to even
    expected = np.array([1 / 255, 1 / 255, -1, 2 * 256 / 255 - 1]).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(normalised(replace(FLOW, is_rounded=True), known), expected, atol=1e-6)
    assert "by way of whole levels, of which 128 is no motion" in replace(FLOW, is_rounded=True).words()


# ---------------------------------------------------------------- overrides


def test_the_first_recipe_is_the_default_and_others_go_by_name() -> None:
    assert resolve("m", BOTH) == resolve("m", BOTH, PreprocessSection()) == RGB
    assert resolve("m", BOTH, default="other") == BOTH["other"]
    assert resolve("m", BOTH, PreprocessSection(recipe="rgb"), default="other") == RGB
    assert resolve("m", BOTH, PreprocessSection(recipe="other")).facts() == BOTH["other"].facts()
    assert TypeAdapter(Preprocess).validate_python("other") == PreprocessSection(recipe="other")


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({"resize": (128, 171)}, {"resize": [128, 171], "short_side": None}),
        ({"resize": "none"}, {"resize": None, "short_side": None}),
        ({"short_side": 240}, {"short_side": 240}),
        ({"filter": "area"}, {"filter": "area"}),
        ({"crop": (112, 100)}, {"crop": [112, 100]}),
        ({"crop": "none"}, {"crop": None}),
        ({"colour": "BGR"}, {"colour": "BGR"}),
        ({"range": (0, 1)}, {"range": [0.0, 1.0]}),
        ({"mean": (1, 2, 3)}, {"mean": [1.0, 2.0, 3.0]}),
        ({"std": (1, 2, 3)}, {"std": [1.0, 2.0, 3.0]}),
    ],
)
def test_each_key_changes_its_own_part_and_the_words_say_so(asked: dict[str, Any], changed: dict[str, Any]) -> None:
    found = resolve("m", BOTH, PreprocessSection(**asked)).facts()
    words = found.pop("words")
    assert words != RGB.words()
    before = RGB.facts()
    del before["words"]
    assert found == {**before, **changed}
    assert json.loads(json.dumps(found)) == found


def test_a_bound_is_flow_s() -> None:
    assert resolve("m", {"f": FLOW}, PreprocessSection(bound=15)).bound_px == 15
    assert "cut at ±15" in resolve("m", {"f": FLOW}, PreprocessSection(bound=15)).words()


def test_words() -> None:
    assert RGB.words() == (
        "frames of the crop's size are used as they are, others: resized to short side 256, the other side rounded to "
        "the nearest even number, bilinear without antialias; then 224×224 (height×width) are cropped; RGB order, "
        "values -1 to 1, minus the mean [0, 0, 0], divided by [1, 1, 1]"
    )
    assert FLOW.words() == (
        "flow of frames of short side 256, computed after the resize; 224×224 (height×width) are cropped; "
        "px are cut at ±20 and divided by it"
    )
    assert "other side rounded down, " in replace(RGB, long_side="floor").words()
    assert recipe().words().startswith("not resized; then the whole frame is used; RGB order")


def test_a_mean_file_takes_the_place_of_the_recipe_s_mean(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).uniform(60, 130, (16, 224, 224, 3))
    np.save(tmp_path / "mean.npy", volume)
    found = resolve("m", BOTH, PreprocessSection(mean=str(tmp_path / "mean.npy")))
    assert isinstance(found.mean, MeanVolume)
    assert found.mean.values.dtype == np.float32
    np.testing.assert_array_equal(found.mean.values, volume.astype(np.float32))
    assert found.mean_source == ""


# ---------------------------------------------------------------- one sentence each


@pytest.mark.parametrize(
    ("modality", "asked", "sentence"),
    [
        ("rgb", {"recipe": "caffe"}, "preprocess: m has no recipe 'caffe'; it has rgb, other"),
        ("rgb", {"bound": 20}, "preprocess.bound: this is for flow models, and m takes rgb"),
        ("flow", {"colour": "BGR"}, "preprocess.colour: this is for rgb models, and m takes flow"),
        ("flow", {"range": (0, 1)}, "preprocess.range: this is for rgb models, and m takes flow"),
        ("flow", {"mean": (1, 2)}, "preprocess.mean: this is for rgb models, and m takes flow"),
        ("flow", {"std": (1, 2)}, "preprocess.std: this is for rgb models, and m takes flow"),
        ("rgb", {"mean": (1, 2)}, "preprocess.mean: 3 numbers, one a channel, got 2"),
        ("rgb", {"std": (1, 2, 3, 4)}, "preprocess.std: 3 numbers, one a channel, got 4"),
    ],
)
def test_what_a_model_can_t_take(modality: str, asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve("m", BOTH if modality == "rgb" else {"deepmind": FLOW}, PreprocessSection(**asked))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"resize": (128, 171), "short_side": 128}, "give resize or short_side, not both"),
        ({"resize": (4, 171)}, r"frames under 8 px a side are not supported, got \[4, 171\]"),
        ({"crop": (112, 7)}, r"frames under 8 px a side are not supported, got \[112, 7\]"),
        ({"std": (1, 0, 1)}, "std must be above 0"),
        ({"std": (1, float("nan"), 1)}, "finite number"),
        ({"mean": (float("inf"), 0, 0)}, "finite number"),
        ({"range": (1, 1)}, "range goes from a lower to a higher number"),
        ({"bound": 0}, "greater than 0"),
        ({"color": "BGR"}, "Extra inputs are not permitted"),
        ({"filter": "bicubic"}, "'bilinear', 'area' or 'antialias'"),
    ],
)
def test_what_no_model_can_take(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PreprocessSection(**asked)


def test_mean_files_that_are_none(tmp_path: Path) -> None:
    def says(name: str, sentence: str) -> None:
        with pytest.raises(UsageError, match=sentence) as error:
            read_mean(str(tmp_path / name))
        assert str(tmp_path / name) in str(error.value)

    says("nowhere.npy", r"preprocess\.mean: .* can't be read \(No such file or directory\); check the path$")
    (tmp_path / "empty.npy").touch()
    says("empty.npy", r"is no \.npy file of numbers, or a damaged one$")
    (tmp_path / "text.npy").write_bytes(b"no array")
    says("text.npy", r"is no \.npy file of numbers, or a damaged one$")
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04" + bytes(40))
    says("zip.npy", r"is no \.npy file of numbers, or a damaged one$")
    np.save(tmp_path / "objects.npy", np.array([{}, {}]))
    says("objects.npy", r"is no \.npy file of numbers, or a damaged one$")
    np.save(tmp_path / "layout.npy", np.zeros((3, 16, 112, 112), np.float32))
    says("layout.npy", r"has shape \(3, 16, 112, 112\); a mean volume is \(frames, height, width, 3\), already cropped")
    np.savez(tmp_path / "archive.npz", mean=np.zeros((2, 2, 2, 3)))
    says("archive.npz", "a mean volume is")
    np.save(tmp_path / "bytes.npy", np.zeros((2, 8, 8, 3), np.uint8))
    says("bytes.npy", "must hold finite floats, got uint8")
    np.save(tmp_path / "nan.npy", np.full((2, 8, 8, 3), np.nan))
    says("nan.npy", "must hold finite floats")


@pytest.mark.parametrize(("crop", "words"), [((112, 112), r"the crop is \[112, 112\]"), ("none", "no crop is taken")])
def test_a_mean_volume_of_another_size_than_the_crop(tmp_path: Path, crop: Any, words: str) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((16, 128, 171, 3), np.float32))
    section = PreprocessSection(mean=str(tmp_path / "mean.npy"), crop=crop)
    with pytest.raises(UsageError, match=rf"has shape \(16, 128, 171, 3\), and {words}; the volume is already cropped"):
        resolve("m", BOTH, section)
