from fractions import Fraction

import cv2
import numpy as np
import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.backgrounds import backgrounds_identity, list_backgrounds, pick_background
from pipeline.synth.encode import write_mp4
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from schemas.errors import ReelmillError, UsageError


def picture(level: int, height_px: int = 40, width_px: int = 90) -> np.ndarray:
    return np.full((height_px, width_px, 3), level, np.uint8)


def pick(folder, seed=0):
    return pick_background(str(folder), np.random.default_rng(seed), height_px=48, width_px=64)


def test_images_and_frames_of_videos_are_taken(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(50))
    write_mp4(tmp_path / "b.mp4", [picture(level) for level in range(100, 200, 10)], rate=Fraction(25), crf=10, gop=5)
    (tmp_path / "notes.txt").write_text("not a picture")
    found = [pick(tmp_path, seed) for seed in range(20)]
    assert {name for _, name in found} == {"a.png", "b.mp4"}
    for frame, name in found:
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.float32
        assert abs(frame.mean() - 50) < 2 if name == "a.png" else 95 < frame.mean() < 200


def test_the_aspect_is_kept_by_cutting_the_sides(tmp_path):
    wide = picture(0, 48, 192)
    wide[:, 64:128] = 255
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    assert pick(tmp_path)[0].min() == 255


def test_damaged_files_give_way_to_readable_ones(tmp_path):
    for name in ("a.jpg", "b.mp4", "c.mkv"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(ReelmillError, match="none of the 3 images and videos"):
        pick(tmp_path)
    cv2.imwrite(str(tmp_path / "d.png"), picture(9))
    assert {pick(tmp_path, seed)[1] for seed in range(8)} == {"d.png"} if not list_backgrounds.cache_clear() else None


def test_an_absent_or_empty_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        list_backgrounds(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no images or videos"):
        list_backgrounds(str(tmp_path))


def test_identity_follows_names_and_sizes(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(50))
    before = backgrounds_identity(str(tmp_path))
    list_backgrounds.cache_clear()
    cv2.imwrite(str(tmp_path / "b.png"), picture(60))
    assert backgrounds_identity(str(tmp_path)) != before


def test_the_same_actors_come_over_any_background(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(50))
    settings = {"videos_per_class": 1, "num_classes": 1, "width_px": 64, "height_px": 48}
    textured, real = SynthSpec(**settings), SynthSpec(**settings, backgrounds=str(tmp_path))
    plan = plan_videos(textured)[0]
    one, other = Scene(textured, plan), Scene(real, plan)
    assert (one.background_name, other.background_name) == (None, "a.png")
    np.testing.assert_array_equal(one.actors[0].patch, other.actors[0].patch)
    np.testing.assert_array_equal(one.layers(7), other.layers(7))
    assert (other.picture(0)[other.layers(0) == 0] == 50).mean() > 0.9
