"""Only motion may tell the class: no single frame does, by the states, by the boxes and by the pixels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.synth.flow import frame_flow
from pipeline.synth.motion import CATALOGUE, MOTIONS, STILL, State, Then, random_state
from pipeline.synth.plan import plan_videos
from pipeline.synth.scene import Scene
from pipeline.synth.spec import SynthSpec
from pipeline.synth.tubes import scene_tubes

CYCLES = np.linspace(0, 1.9, 41)
START = State(0.3, 0.4, 1.0, 0.6)


def run(name: str, start: State = START, cycles: np.ndarray = CYCLES):
    return MOTIONS[name](start, cycles, np.random.default_rng(5))


@pytest.mark.parametrize("name", CATALOGUE[:40] + CATALOGUE[-5:])
def test_every_motion_starts_at_its_start_and_keeps_the_size_in_range(name):
    track = run(name)
    assert [len(part) for part in (track.x, track.y, track.angle, track.zoom)] == [len(CYCLES)] * 4
    first = (track.x[0], track.y[0], track.angle[0], track.zoom[0])
    np.testing.assert_allclose(first, (START.x, START.y, START.angle, START.zoom), atol=1e-12)
    assert ((track.zoom >= 0) & (track.zoom < 1)).all()


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        ("move_right", "move_left"),
        ("move_up", "move_down"),
        ("rotate_cw", "rotate_ccw"),
        ("zoom_in", "zoom_out"),
        ("move_up_right", "move_down_left"),
    ],
)
def test_pairs_are_each_others_time_reversal(name, reverse):
    forward = run(name)
    backward = run(reverse, forward.end())
    for part in ("x", "y", "angle", "zoom"):
        np.testing.assert_allclose(getattr(backward, part)[::-1], getattr(forward, part), atol=1e-9)


def test_directions_are_as_seen_on_screen():
    assert run("move_right").x[-1] > START.x
    assert run("move_up").y[-1] < START.y  # y grows downward
    assert run("rotate_cw").angle[-1] > START.angle
    assert run("zoom_in").zoom[1] > START.zoom


@pytest.mark.parametrize("name", [*CATALOGUE[:20], "move_right_then_zoom_in"])
def test_at_any_instant_the_state_is_uniform_whatever_the_class(name):
    rng = np.random.default_rng(3)
    states = []
    for _ in range(1500):
        track = MOTIONS[name](random_state(rng, width=1.5, height=1.0), np.array([0.0, 0.13, 0.8, 1.3]), rng)
        states.append(
            (track.x[2] % 1.5 / 1.5, track.y[2] % 1.0, track.angle[2] % (2 * np.pi) / 2 / np.pi, track.zoom[2])
        )
    for values in np.transpose(states):
        distance = np.abs(np.sort(values) - (np.arange(1500) + 0.5) / 1500).max()
        assert distance < 1.95 / np.sqrt(1500)  # Kolmogorov-Smirnov, p = 0.001


def test_order_is_all_that_differs_between_a_sequence_and_its_swap():
    one, other = run("move_right_then_rotate_cw"), run("rotate_cw_then_move_right")
    middle = len(CYCLES) // 2
    np.testing.assert_allclose(one.x[middle:], one.x[middle])
    np.testing.assert_allclose(other.x[: middle + 1], START.x)
    assert one.x[-1] == pytest.approx(other.x[-1])
    assert one.angle[-1] == pytest.approx(other.angle[-1])
    swaps = list(zip(CATALOGUE[20::2], CATALOGUE[21::2], strict=False))
    assert swaps[0] == ("move_right_then_move_left", "move_left_then_move_right")


def test_still_is_in_no_sequence_since_it_marks_unlabelled_stretches():
    sequences = [name for name, motion in MOTIONS.items() if isinstance(motion, Then)]
    assert sequences
    assert not [name for name in sequences if STILL in name]


# ---------------------------------------------------------------- what a classifier can and can't learn

SPEC = SynthSpec(videos_per_class=40, width_px=64, height_px=48, fps=5, duration_s=2)
FRAME = 4


@pytest.fixture(scope="module")
def videos():
    """Per video: class, fold, pixels of one frame, boxes of that frame, mean motion of the actor at that frame."""
    rows = []
    for plan in plan_videos(SPEC):
        scene = Scene(SPEC, plan)
        small = cv2.resize(scene.picture(FRAME), (16, 12), interpolation=cv2.INTER_AREA)
        box = max(
            (t.boxes_xywh[FRAME - t.start_frame] for t in scene_tubes(scene) if t.start_frame <= FRAME < t.end_frame),
            key=lambda box: box[2] * box[3],
        )
        label = SPEC.classes.index(plan.label)
        rows.append((label, plan.index % 2, small.ravel(), box, _motion(scene)))
    return rows


def _motion(scene: Scene) -> np.ndarray:
    """What true flow says of the actor: shift right and down, rotation, expansion; medians over the frames, (4,)."""
    found = []
    for frame in range(0, scene.plan.num_frames - 1, 2):
        flow, _ = frame_flow(scene, frame)
        _, pieces, sizes, _ = cv2.connectedComponentsWithStats(scene.layers(frame))
        actor = pieces == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()  # at an edge the actor is in two pieces
        down, across = np.nonzero(actor)
        rows = np.stack([np.ones(len(down)), across - across.mean(), down - down.mean()], axis=1)
        (u, v), (ux, vx), (uy, vy) = np.linalg.lstsq(rows, flow[actor].astype(np.float64), rcond=None)[0]
        # a piece of a turning actor also shifts, by less than its turn moves the actor's edge: weigh turns by that
        found.append((u, v, (vx - uy) * SPEC.short_px / 2, (ux + vy) * SPEC.short_px / 2))
    motion = np.median(found, axis=0)
    return motion / np.linalg.norm(motion)


def _accuracy(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Ridge regression to one-hot labels, trained on fold 0, tested on fold 1."""
    train = folds == 0
    mean, deviation = features[train].mean(0), features[train].std(0) + 1e-6
    scaled = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
    wanted = np.eye(labels.max() + 1)[labels]
    gram = scaled[train].T @ scaled[train] + 1.0 * np.eye(scaled.shape[1])
    scores = scaled @ np.linalg.solve(gram, scaled[train].T @ wanted[train])
    return float((scores[~train].argmax(1) == labels[~train]).mean())


def test_one_frame_says_nothing_and_motion_says_it_all(videos):
    labels, folds, pixels, boxes, motion = (np.array(column, dtype=np.float64) for column in zip(*videos, strict=True))
    labels, folds = labels.astype(int), folds.astype(int)
    chance, error = 1 / 8, np.sqrt(1 / 8 * 7 / 8 / (folds == 1).sum())
    shapes = np.column_stack([boxes, boxes**2, boxes[:, 2] * boxes[:, 3]])
    assert _accuracy(pixels, labels, folds) < chance + 3.5 * error
    assert _accuracy(shapes, labels, folds) < chance + 3.5 * error
    assert _accuracy(motion, labels, folds) > 0.95


def test_looks_do_not_depend_on_the_class():
    plan = plan_videos(SPEC)[0]
    other = replace(plan, stretches=(replace(plan.stretches[0], label="zoom_out"),))
    one, two = Scene(SPEC, plan), Scene(SPEC, other)
    np.testing.assert_array_equal(one.picture(0), two.picture(0))  # motion has not begun
    assert (one.picture(5) != two.picture(5)).any()
