import numpy as np
import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene


def scenes(**settings):
    spec = SynthSpec(**{"videos_per_class": 3, "width_px": 96, "height_px": 64, "fps": 10, **settings})
    return [Scene(spec, plan) for plan in plan_videos(spec)]


@pytest.mark.parametrize(
    "settings", [{"num_classes": 12}, {"num_classes": 2, "camera_jitter_px": 6.0, "num_actors": 2}]
)
def test_an_actor_is_on_screen_whole_in_area_in_every_frame(settings):
    for scene in scenes(**settings):
        # what leaves at one edge enters at the other, so the pieces' area is that of the actor
        mask_area = [(actor.patch[..., 3] >= 0.5).sum() for actor in scene.actors]
        for frame in range(0, scene.plan.num_frames, 7):
            layers = scene.layers(frame)
            top = len(mask_area) - 1  # the one that nothing covers
            scale = np.linalg.det(scene.actors[top].matrices[frame][:, :2])
            assert (layers == top + 1).sum() == pytest.approx(mask_area[top] * scale, rel=0.05)


def test_pictures_are_the_background_where_no_actor_is():
    scene = scenes(num_classes=1)[0]
    picture, layers = scene.picture(3), scene.layers(3)
    far = np.ones_like(layers, bool)
    for copy in scene.copies(3):
        x1, y1, x2, y2 = copy.bounds
        far[max(0, int(y1) - 3) : int(y2) + 4, max(0, int(x1) - 3) : int(x2) + 4] = False
    assert far.any()
    np.testing.assert_array_equal(picture[far], np.rint(scene.background)[far])


def test_still_shows_the_same_picture_and_the_camera_moves_all_of_it():
    still = next(scene for scene in scenes(num_classes=10) if scene.plan.label == "still")
    np.testing.assert_array_equal(still.picture(0), still.picture(20))
    shaken = next(scene for scene in scenes(num_classes=10, camera_jitter_px=5) if scene.plan.label == "still")
    assert np.abs(shaken.camera).max() <= 5
    moved = np.abs(shaken.picture(0).astype(int) - shaken.picture(20)).mean(axis=2)
    assert (moved > 1).mean() > 0.5


def test_a_scene_is_a_function_of_its_plan_and_seed():
    one, again = scenes(num_classes=1)[1], scenes(num_classes=1)[1]
    other = scenes(num_classes=1, seed=1)[1]
    np.testing.assert_array_equal(one.picture(9), again.picture(9))
    assert (one.picture(9) != other.picture(9)).any()


def test_untrimmed_actors_are_still_between_their_segments_only():
    spec = SynthSpec(videos_per_class=0, num_untrimmed=2, num_classes=6, width_px=96, height_px=64, fps=10)
    for plan in plan_videos(spec):
        scene = Scene(spec, plan)
        changes = np.abs(np.diff(scene.actors[0].matrices, axis=0)).max(axis=(1, 2)) > 1e-9
        acting = np.zeros(plan.num_frames, bool)
        for stretch in plan.stretches:
            acting[stretch.start_frame : stretch.end_frame] = True
        # frame i of a segment differs from frame i - 1, its first frame too
        np.testing.assert_array_equal(changes, acting[1:])
