import numpy as np
import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from pipeline.synth.tubes import scene_tubes, tubes_json

SPEC = SynthSpec(videos_per_class=2, num_classes=10, width_px=96, height_px=64, fps=10)


@pytest.mark.parametrize("plan", plan_videos(SPEC)[::2], ids=lambda plan: plan.label)
def test_boxes_are_tight_around_what_is_seen(plan):
    scene = Scene(SPEC, plan)
    tubes = scene_tubes(scene)
    for frame in range(0, plan.num_frames, 9):
        here = [tube for tube in tubes if tube.start_frame <= frame < tube.end_frame]
        assert here  # never unseen
        seen = scene.layers(frame) > 0
        for tube in here:
            x, y, width, height = tube.boxes_xywh[frame - tube.start_frame]
            assert min(x, y) >= 0
            assert x + width <= 96
            assert y + height <= 64
            left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
            inside = seen[top:bottom, left:right]
            # the outermost seen pixels are within one and a half pixels of the box
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            gaps = (rows[0], bottom - top - 1 - rows[-1], columns[0], right - left - 1 - columns[-1])
            assert max(gaps) <= 2
            seen[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False
        assert seen.sum() < 0.26 * scene.layers(frame).astype(bool).sum()  # only small pieces have no box


def test_an_actor_that_wraps_is_two_people_each_moving_without_a_jump():
    plan = next(plan for plan in plan_videos(SPEC) if plan.label == "move_right")
    tubes = scene_tubes(Scene(SPEC, plan))
    assert len({tube.person_id for tube in tubes}) == len(tubes) > 1
    for tube in tubes:
        centres = np.array([x + width / 2 for x, _, width, _ in tube.boxes_xywh])
        assert (np.diff(centres) > 0).all()
        assert (np.diff(centres) < 10).all()


def test_untrimmed_tubes_cover_the_segments_of_the_acting_actor_only():
    spec = SynthSpec(videos_per_class=0, num_untrimmed=1, num_actors=2, width_px=96, height_px=64, fps=10)
    plan = plan_videos(spec)[0]
    tubes = scene_tubes(Scene(spec, plan))
    for frame in range(plan.num_frames):
        labels = {tube.label for tube in tubes if tube.start_frame <= frame < tube.end_frame}
        assert labels == {s.label for s in plan.stretches if s.start_frame <= frame < s.end_frame}


def test_json_has_the_structure_of_ucf101_24():
    plan = plan_videos(SPEC)[0]
    record = tubes_json(Scene(SPEC, plan), video="x.mp4")
    assert record["video"] == "x.mp4"
    assert record["num_frames"] == plan.num_frames == 40
    for tube in record["tubes"]:
        assert len(tube["boxes_xywh"]) == tube["end_frame"] - tube["start_frame"]
        assert tube["label"] == plan.label
