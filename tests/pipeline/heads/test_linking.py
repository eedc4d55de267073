"""Tubes of hand-made scenes: who is linked with whom, over which gaps, from where to where."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.heads.linking import label_inside, link
from schemas.annotation import Tube
from schemas.heads import Linking

PLAIN = Linking(trim=False)


def box(x: float, y: float = 0.0, size: float = 10.0) -> list[float]:
    return [x, y, x + size, y + size]


def scene(
    *keyframes: list[tuple[list[float], list[float]]], num_classes: int = 1
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Boxes and scores of keyframes of (box, score of each class)."""
    boxes = [np.array([found for found, _ in key], dtype=np.float64).reshape(-1, 4) for key in keyframes]
    scores = [np.array([score for _, score in key], dtype=np.float64).reshape(-1, num_classes) for key in keyframes]
    return boxes, scores


def linked(
    frames: list[int],
    parts: tuple[list[np.ndarray], list[np.ndarray]],
    *,
    rules: Linking = PLAIN,
    num_frames: int = 100,
    ends: tuple[int | None, int | None] = (None, None),
) -> list[Tube]:
    return link(np.array(frames, dtype=np.int64), *parts, video=3, num_frames=num_frames, rules=rules, ends=ends)


def test_one_actor_is_one_tube_with_a_box_a_frame() -> None:
    tubes = linked([10, 20, 30], scene([(box(0), [0.8])], [(box(2), [0.6])], [(box(6, 1), [0.4])]))
    assert len(tubes) == 1
    tube = tubes[0]
    assert (tube.video, tube.label, tube.start_frame, tube.end_frame) == (3, 0, 5, 36)
    assert tube.score == pytest.approx(0.6)
    assert tube.box_scores is not None
    for frame, x, y, score in ((5, 0, 0, 0.8), (10, 0, 0, 0.8), (15, 1, 0, 0.7), (25, 4, 0.5, 0.5), (35, 6, 1, 0.4)):
        np.testing.assert_allclose(tube.boxes[frame - 5], box(x, y))
        assert tube.box_scores[frame - 5] == pytest.approx(score)


def test_two_actors_that_pass_each_other_keep_their_own_boxes() -> None:
    left, right = [(0, 0), (4, 0), (8, 0)], [(20, 9), (16, 9), (12, 9)]
    keys = [[(box(*a), [0.9]), (box(*b), [0.8])] for a, b in zip(left, right, strict=True)]
    keys[1].reverse()  # the order of rows says nothing
    first, second = linked([0, 10, 20], scene(*keys))
    np.testing.assert_allclose(first.boxes[[0, 10, 20]], [box(*at) for at in left])
    np.testing.assert_allclose(second.boxes[[0, 10, 20]], [box(*at) for at in right])


def test_of_two_that_overlap_the_better_sum_of_score_and_overlap_goes_on() -> None:
    sure, near = (box(3), [0.9]), (box(1), [0.3])  # 0.538 + 0.9 against 0.818 + 0.3
    tubes = linked([0, 10], scene([(box(0), [0.5])], [near, sure]))
    assert [len(tube.boxes) for tube in tubes] == [16, 11]
    np.testing.assert_allclose(tubes[0].boxes[10], box(3))
    assert (tubes[1].start_frame, tubes[1].score) == (5, pytest.approx(0.3))  # the other starts a tube of its own


def test_a_detection_is_in_one_tube() -> None:
    tubes = linked([0, 10], scene([(box(0), [0.9]), (box(2), [0.8])], [(box(1.5), [0.7])]))
    assert [(tube.score, len(tube.boxes)) for tube in tubes] == [(pytest.approx(0.9), 5), (pytest.approx(0.75), 16)]


@pytest.mark.parametrize(("max_gap", "extents"), [(3, [(0, 46)]), (2, [(0, 5), (35, 46)])])
def test_a_gap_is_bridged_up_to_so_many_keyframes(max_gap: int, extents: list[tuple[int, int]]) -> None:
    parts = scene([(box(0), [0.9])], [], [], [], [(box(4), [0.5])])
    tubes = linked([0, 10, 20, 30, 40], parts, rules=Linking(trim=False, max_gap=max_gap))
    assert [(tube.start_frame, tube.end_frame) for tube in tubes] == extents
    np.testing.assert_allclose(tubes[-1].boxes[-26 if len(tubes) == 1 else -1], box(2 if len(tubes) == 1 else 4))
    assert tubes[0].score == pytest.approx(0.7 if len(tubes) == 1 else 0.9)  # what is missing has no say in the mean


def test_what_is_too_far_or_too_weak_is_not_linked() -> None:
    assert len(linked([0, 10], scene([(box(0), [0.9])], [(box(8), [0.9])]))) == 2  # IoU 1/9
    assert len(linked([0, 10], scene([(box(0), [0.9])], [(box(0), [0.04])]))) == 1
    parts = scene([(box(0), [0.9])], [(box(8), [0.9])])
    assert linked([0, 10], parts, rules=Linking(trim=False, min_keyframes=2)) == []


def test_each_class_is_linked_by_itself() -> None:
    parts = scene([(box(0), [0.9, 0.1])], [(box(1), [0.7, 0.3])], [(box(2), [0.0, 0.5])], num_classes=2)
    tubes = linked([0, 10, 20], parts)
    assert [(t.label, t.start_frame, t.end_frame, round(t.score or 0, 3)) for t in tubes] == [
        (0, 0, 15, 0.8),
        (1, 0, 26, 0.3),
    ]


def test_a_long_low_end_is_cut_and_a_long_low_middle_makes_two() -> None:
    def extents(scores: list[float]) -> list[tuple[int, int]]:
        keys = scene(*[[(box(0), [score])] for score in scores])
        tubes = linked([10 * k for k in range(len(scores))], keys, rules=Linking())
        return sorted((tube.start_frame, tube.end_frame) for tube in tubes)

    assert extents([0.8, 0.8, 0.8, 0.1, 0.1]) == [(0, 25)]
    assert extents([0.8, 0.1, 0.8]) == [(0, 26)]  # one low keyframe is not worth two cuts
    assert extents([0.8, 0.8] + [0.1] * 5 + [0.8, 0.8]) == [(0, 15), (65, 86)]
    assert extents([0.08, 0.08, 0.08]) == [(0, 26)]  # low means low for this path


def test_trimming_bridges_gaps_with_the_scores_around_them() -> None:
    parts = scene([(box(0), [0.8])], [], [], [(box(0), [0.8])])
    assert [len(tube.boxes) for tube in linked([0, 10, 20, 30], parts, rules=Linking())] == [36]


def test_labels_are_the_best_of_all() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gains, cost = rng.integers(-4, 5, 8) / 4, float(rng.integers(1, 5)) / 4

        def worth(inside: tuple[bool, ...], gains: np.ndarray = gains, cost: float = cost) -> float:
            changes = sum(a != b for a, b in itertools.pairwise(inside))
            return float(gains[list(inside)].sum() - cost * changes)

        best = max(worth(labels) for labels in itertools.product((False, True), repeat=8))
        assert worth(tuple(label_inside(gains, cost=cost).tolist())) == best
    assert label_inside(np.zeros(3), cost=1.0).all()


def test_the_first_and_last_keyframe_reach_to_the_frames_that_were_looked_at() -> None:
    parts = scene([(box(0), [0.9])], [(box(0), [0.9])], [(box(0), [0.9])])
    spans = {
        ends: [(tube.start_frame, tube.end_frame) for tube in linked([10, 20, 30], parts, ends=ends)]
        for ends in ((None, None), (2, 41), (None, 41), (15, 25), (-5, 500))
    }
    assert spans == {
        (None, None): [(5, 36)],
        (2, 41): [(2, 41)],
        (None, 41): [(5, 41)],
        (15, 25): [(10, 31)],  # a keyframe's own frame always counts
        (-5, 500): [(0, 100)],
    }
    alone = linked([7], scene([(box(0), [0.9])]), ends=(3, 12))
    assert [(tube.start_frame, tube.end_frame) for tube in alone] == [(3, 12)]


def test_tubes_stay_within_the_video() -> None:
    parts = scene([(box(0), [0.9])], [(box(0), [0.9])])
    assert [(t.start_frame, t.end_frame) for t in linked([3, 17], parts, num_frames=20)] == [(0, 20)]
    alone = linked([7], scene([(box(0), [0.9])]), num_frames=20)
    assert [(t.start_frame, t.end_frame) for t in alone] == [(7, 8)]
    assert linked([], ([], [])) == []
    assert linked([4, 9], scene([], [])) == []
    for frames in ([3, 3], [5, 2], [-1, 4], [3, 20]):
        with pytest.raises(ValueError, match="keyframes must be ascending frames of a video of 20"):
            linked(frames, parts, num_frames=20)


def test_equal_scenes_give_equal_tubes_best_first() -> None:
    rng = np.random.default_rng(0)
    keys = [[(box(*rng.integers(0, 60, 2)), (rng.integers(0, 5, 3) / 5).tolist()) for _ in range(8)] for _ in range(12)]
    runs = [linked([8 * k for k in range(12)], scene(*keys, num_classes=3), rules=Linking()) for _ in range(2)]
    assert len(runs[0]) > 10
    for one, two in zip(*runs, strict=True):
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert (one.label, one.score, one.start_frame) == (two.label, two.score, two.start_frame)
    scores = [tube.score or 0 for tube in runs[0]]
    assert scores == sorted(scores, reverse=True)
