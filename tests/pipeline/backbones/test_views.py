"""Where views are cut, how they are called, and what mirroring does to flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.backbones.views import Crops, View, cut, num_views, views_of


def places(size: tuple[int, int], crop: tuple[int, int] | None, crops: Crops, *, flip: bool = False) -> dict[str, Any]:
    return {view.name: (view.top, view.left) for view in views_of(size, crop, crops=crops, flip=flip)}


def test_one_crop_is_the_middle_rounded_down() -> None:
    assert places((128, 171), (112, 112), 1) == {"center": (8, 29)}
    assert places((112, 112), (112, 112), 1) == {"center": (0, 0)}
    assert places((120, 161), None, 1) == {"center": (0, 0)}


def test_three_crops_go_along_the_longer_side() -> None:
    assert places((256, 340), (224, 224), 3) == {"left": (16, 0), "center": (16, 58), "right": (16, 116)}
    assert places((340, 256), (224, 224), 3) == {"top": (0, 16), "center": (58, 16), "bottom": (116, 16)}
    assert list(places((256, 256), (256, 256), 3)) == ["left", "center", "right"]


def test_ten_crops_are_the_middle_the_corners_and_their_mirror_images() -> None:
    five = {
        "center": (16, 58),
        "top_left": (0, 0),
        "top_right": (0, 116),
        "bottom_left": (32, 0),
        "bottom_right": (32, 116),
    }
    found = places((256, 340), (224, 224), 10)
    assert found == five | {f"{name}_flip": place for name, place in five.items()}
    assert list(found)[:6] == [*five, "center_flip"], "rows come in this order"
    assert places((256, 340), (224, 224), 10, flip=True) == found


@pytest.mark.parametrize("crops", [1, 3, 10])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(128, 171), (171, 128)])
def test_views_are_as_many_as_said_named_apart_and_inside(crops: Crops, flip: bool, size: tuple[int, int]) -> None:
    views = views_of(size, (112, 100), crops=crops, flip=flip)
    assert len(views) == num_views(crops, flip=flip) == len({view.name for view in views})
    assert sum(view.is_flipped for view in views) == (len(views) // 2 if flip or crops == 10 else 0)
    frames = np.zeros((2, *size, 3), np.uint8)
    assert {part.shape for part in cut(frames, (112, 100), views)} == {(2, 112, 100, 3)}


def test_cut_takes_the_pixels_of_the_place() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    plain, flipped = cut(frames, (8, 10), [View("a", 5, 7), View("a_flip", 5, 7, True)])
    assert np.array_equal(plain, frames[:, 5:13, 7:17])
    for column in range(10):
        assert np.array_equal(flipped[:, :, column], plain[:, :, 9 - column])


def test_without_a_crop_the_whole_frame_is_the_view() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    plain, flipped = cut(frames, None, views_of((20, 30), None, crops=1, flip=True))
    assert np.array_equal(plain, frames)
    assert np.array_equal(flipped, frames[:, :, ::-1])


def test_mirrored_flow_in_px_goes_the_other_way() -> None:
    flow = np.random.default_rng(0).normal(0, 9, (3, 6, 8, 2)).astype(np.float16)
    before = flow.copy()
    (mirrored,) = cut(flow, None, [View("center_flip", 0, 0, True)])
    assert mirrored.dtype == np.float16
    assert np.array_equal(mirrored[..., 0], -flow[:, :, ::-1, 0])
    assert np.array_equal(mirrored[..., 1], flow[:, :, ::-1, 1])
    assert np.array_equal(flow, before), "the frames themselves stay"


def test_mirrored_levels_stand_for_the_mirrored_px_exactly() -> None:
    """Level q stands for 2bq / 255 - b px. In whole numbers: 2q - 255 in units of b / 255."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(2, axis=3)
    (mirrored,) = cut(levels, None, [View("center_flip", 0, 0, True)])
    assert mirrored.dtype == np.uint8
    units = 2 * levels.astype(int) - 255
    units_mirrored = 2 * mirrored.astype(int) - 255
    assert np.array_equal(units_mirrored[..., 0], -units[:, :, ::-1, 0]), "no level is cut or rounded"
    assert np.array_equal(mirrored[..., 1], levels[:, :, ::-1, 1])
