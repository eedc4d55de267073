"""One draw for a whole clip: every frame the same crop, flip and colours; flow stays the flow of what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.clips.augment import Augmentation, augmented, draw
from schemas.heads import Augment

FRAME = (24, 32)
WHOLE = Augmentation(top=0, left=0, height=24, width=32, is_flipped=False, brightness=1, contrast=1)


def changed(**parts: float | bool) -> Augmentation:
    return Augmentation(**{**{name: getattr(WHOLE, name) for name in WHOLE.__slots__}, **parts})


def rgb(num_frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, *FRAME, 3), np.uint8)


def still(num_frames: int = 5) -> np.ndarray:
    return np.repeat(rgb(1), num_frames, axis=0)


def flow(num_frames: int = 5) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3, (num_frames, *FRAME, 2)).astype(np.float32)


def draws(settings: Augment, *, frame: tuple[int, int] = FRAME, size: tuple[int, int] = FRAME) -> list[Augmentation]:
    rng = np.random.default_rng(3)
    return [draw(settings, frame=frame, size=size, rng=rng) for _ in range(400)]


# ---------------------------------------------------------------- what is drawn


def test_crops_keep_the_share_that_is_asked_for_and_reach_every_place() -> None:
    found = draws(Augment(crop_scale=(0.5, 1.0)))
    heights = {one.height for one in found}
    assert (min(heights), max(heights)) == (12, 24)
    assert all(abs(one.width - 32 * one.height / 24) <= 1 for one in found)
    assert all(0 <= one.top <= 24 - one.height and 0 <= one.left <= 32 - one.width for one in found)
    fixed = draws(Augment(crop_scale=(0.75, 0.75)))
    assert {one.top for one in fixed} == set(range(7)), "every row, the last one too"
    assert {one.left for one in fixed} == set(range(9))


def test_a_crop_has_the_aspect_of_what_enters_the_net() -> None:
    found = draws(Augment(crop_scale=(0.8, 1.0)), frame=(128, 171), size=(112, 112))
    assert all(one.height == one.width for one in found)
    assert (min(one.height for one in found), max(one.height for one in found)) == (102, 128)
    enlarged = draws(Augment(crop_scale=(1.0, 1.0)), frame=(24, 32), size=(112, 112))
    assert {(one.height, one.width) for one in enlarged} == {(24, 24)}


def test_left_and_right_stay_unless_a_flip_is_asked_for() -> None:
    assert not any(one.is_flipped for one in draws(Augment()))
    assert 150 < sum(one.is_flipped for one in draws(Augment(flip=True))) < 250


def test_colours_stay_unless_asked_for_and_are_uniform_about_one() -> None:
    assert {(one.brightness, one.contrast) for one in draws(Augment())} == {(1, 1)}
    found = draws(Augment(brightness=0.4, contrast=0.2))
    for values, most in (([one.brightness for one in found], 0.4), ([one.contrast for one in found], 0.2)):
        assert 1 - most <= min(values) < 1 - 0.95 * most
        assert 1 + 0.95 * most < max(values) <= 1 + most
        assert np.mean(values) == pytest.approx(1, abs=0.1 * most)


def test_draws_are_the_generator_s_and_settings_do_not_shift_each_other_s() -> None:
    plain, other = draws(Augment()), draws(Augment(flip=True, brightness=0.3, contrast=0.3))
    assert plain == draws(Augment())
    assert [(one.top, one.left, one.height) for one in plain] == [(one.top, one.left, one.height) for one in other]


# ---------------------------------------------------------------- what it does


def test_nothing_drawn_changes_nothing() -> None:
    for clip in (rgb(), flow()):
        same = augmented(clip, WHOLE, size=FRAME)
        assert np.array_equal(same, clip)
        assert same.dtype == clip.dtype


def test_a_crop_is_the_same_part_of_each_frame() -> None:
    clip = rgb()
    cropped = augmented(clip, changed(top=3, left=5, height=12, width=16), size=(12, 16))
    assert np.array_equal(cropped, clip[:, 3:15, 5:21])


@pytest.mark.parametrize("size", [FRAME, (9, 12), (40, 40)])
def test_of_a_still_clip_every_frame_stays_the_same(size: tuple[int, int]) -> None:
    """One by one, crops would move it and colours make it flicker."""
    rng = np.random.default_rng(0)
    settings = Augment(crop_scale=(0.5, 1.0), flip=True, brightness=0.5, contrast=0.5)
    for _ in range(10):
        found = augmented(still(), draw(settings, frame=FRAME, size=size, rng=rng), size=size)
        assert found.shape == (5, *size, 3)
        assert found.dtype == np.uint8
        assert (found == found[:1]).all()
        assert not np.array_equal(found, still())


def test_a_flip_mirrors_frames_and_turns_the_x_of_flow() -> None:
    clip, field = rgb(), flow()
    flipped = changed(is_flipped=True)
    assert np.array_equal(augmented(clip, flipped, size=FRAME), clip[:, :, ::-1])
    turned = augmented(field, flipped, size=FRAME)
    assert np.array_equal(turned[..., 0], -field[:, :, ::-1, 0])
    assert np.array_equal(turned[..., 1], field[:, :, ::-1, 1])


def test_flow_of_an_enlarged_part_grows_with_it() -> None:
    for dtype in (np.float32, np.float16):
        field = np.broadcast_to(np.array([2.0, -1.0], dtype), (3, *FRAME, 2))
        found = augmented(field, changed(top=2, left=1, height=12, width=8), size=FRAME)
        assert found.dtype == dtype
        np.testing.assert_allclose(found[..., 0], 8, rtol=1e-3)  # 32 / 8 times
        np.testing.assert_allclose(found[..., 1], -2, rtol=1e-3)  # 24 / 12 times


def test_flow_of_changed_frames_is_the_changed_flow() -> None:
    """A square that moves 3 px right: in the mirrored, enlarged clip it moves by what the changed field says."""
    clip = np.zeros((2, *FRAME, 3), np.uint8)
    clip[0, 8:12, 10:14] = clip[1, 8:12, 13:17] = 255
    field = np.zeros((1, *FRAME, 2), np.float32)
    field[..., 0] = 3
    drawn = changed(top=4, left=6, height=12, width=16, is_flipped=True)
    seen = augmented(clip, drawn, size=FRAME).astype(np.float64)[..., 0]
    centers = [(frame.sum(0) * np.arange(32)).sum() / frame.sum() for frame in seen]
    assert centers[1] - centers[0] == pytest.approx(augmented(field, drawn, size=FRAME)[0, 12, 16, 0])


def test_brightness_scales_and_contrast_spreads_about_the_clip_s_mean() -> None:
    clip = np.full((2, *FRAME, 3), 100, np.uint8)
    assert (augmented(clip, changed(brightness=1.2), size=FRAME) == 120).all()
    assert (augmented(clip, changed(brightness=3.0), size=FRAME) == 255).all(), "cut, not wrapped around"
    assert (augmented(clip, changed(contrast=0.5), size=FRAME) == 100).all()
    clip[1] = 50  # the mean of the clip is 75, whichever frame
    spread = augmented(clip, changed(contrast=1.4), size=FRAME)
    assert (spread[0] == 110).all()
    assert (spread[1] == 40).all()


def test_flow_has_no_colours() -> None:
    field = flow()
    assert np.array_equal(augmented(field, changed(brightness=1.5, contrast=0.5), size=FRAME), field)


def test_levels_of_flow_are_refused() -> None:
    with pytest.raises(AssertionError):
        augmented(flow().astype(np.uint8), WHOLE, size=FRAME)
