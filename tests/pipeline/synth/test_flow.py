import io

import cv2
import numpy as np
import pytest

from pipeline.synth import SynthSpec
from pipeline.synth.flow import frame_flow, video_flow, write_flow
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene

SPEC = SynthSpec(videos_per_class=1, num_classes=22, width_px=128, height_px=96, fps=25, duration_s=1, num_actors=2)


def warped_error(scene: Scene, frame: int) -> tuple[float, float]:
    """Mean difference inside actors: of the next picture warped back by the flow, and of the next picture as it is."""
    flow, valid = frame_flow(scene, frame)
    down, across = np.indices(valid.shape).astype(np.float32)
    now, following = scene.picture(frame).astype(np.float32), scene.picture(frame + 1).astype(np.float32)
    back = cv2.remap(following, across + flow[..., 0], down + flow[..., 1], cv2.INTER_CUBIC)
    layers = scene.layers(frame)
    inside = np.zeros(valid.shape, bool)
    for actor in range(1, len(scene.actors) + 1):
        inside |= cv2.erode((valid & (layers == actor)).astype(np.uint8), np.ones((5, 5))).astype(bool)
    return float(np.abs(back - now)[inside].mean()), float(np.abs(following - now)[inside].mean())


@pytest.mark.parametrize("plan", plan_videos(SPEC), ids=lambda plan: plan.label)
def test_the_next_frame_warped_back_by_the_flow_is_this_frame(plan):
    scene = Scene(SPEC, plan)
    for frame in (2, 11):
        warped, plain = warped_error(scene, frame)
        assert warped < 4  # grey levels, of resampling twice
        assert plan.label == "still" or warped < 0.5 * plain


def test_the_camera_moves_the_background():
    spec = SynthSpec(videos_per_class=1, num_classes=1, width_px=64, height_px=64, camera_jitter_px=4)
    scene = Scene(spec, plan_videos(spec)[0])
    flow, _ = frame_flow(scene, 5)
    background = scene.layers(5) == 0
    np.testing.assert_allclose(
        flow[background], np.tile(scene.camera[6] - scene.camera[5], (background.sum(), 1)), atol=1e-5
    )


def test_moving_right_is_a_positive_u_at_the_rate_of_the_fps():
    spec = SynthSpec(videos_per_class=1, num_classes=1, width_px=96, height_px=96)
    scene = Scene(spec, plan_videos(spec)[0])
    flow, valid = video_flow(scene)
    assert flow.shape == (99, 96, 96, 2)
    assert flow.dtype == np.float16
    assert valid.shape == (99, 96, 96)
    moving = np.stack([scene.layers(frame) > 0 for frame in range(99)])
    speeds_px = flow[moving].astype(np.float64)
    assert 0.85 * 0.4 * 96 / 25 <= speeds_px[:, 0].mean() <= 1.15 * 0.4 * 96 / 25  # 0.4 short sides a second
    assert speeds_px[:, 0].std() < 0.01
    assert np.abs(speeds_px[:, 1]).max() < 0.01
    assert (flow[~moving] == 0).all()


def test_what_gets_covered_leaves_or_jumps_is_not_valid():
    spec = SynthSpec(videos_per_class=1, num_classes=8, width_px=96, height_px=96)
    right, zoom = Scene(spec, plan_videos(spec)[0]), Scene(spec, plan_videos(spec)[6])
    _, valid = frame_flow(right, 10)
    covered = (right.layers(10) == 0) & (right.layers(11) > 0)
    assert covered.any()
    assert not valid[covered].any()
    jump = int(np.flatnonzero(zoom.actors[0].cuts)[0])
    _, valid = frame_flow(zoom, jump)
    assert not valid[zoom.layers(jump) > 0].any()
    assert frame_flow(zoom, jump - 1)[1][zoom.layers(jump - 1) > 0].mean() > 0.7


def test_the_file_has_equal_bytes_each_time():
    spec = SynthSpec(videos_per_class=1, num_classes=1, width_px=48, height_px=48, fps=5, duration_s=1)
    files = []
    for _ in range(2):
        files.append(io.BytesIO())
        write_flow(Scene(spec, plan_videos(spec)[0]), files[-1])
    assert files[0].getvalue() == files[1].getvalue()
    loaded = np.load(io.BytesIO(files[0].getvalue()))
    assert set(loaded) == {"flow", "valid"}
