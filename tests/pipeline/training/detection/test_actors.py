"""Actors by hand: rows of one box are one actor, what the view lacks is left out, each class must be learnt."""

import numpy as np
import pytest

from pipeline.training.detection.actors import actors_of, classes_of, target_of
from schemas.annotation import BoxTable
from schemas.errors import ReelmillError

WHOLE = np.array([0.0, 0.0, 1.0, 1.0])


def table(*rows: tuple[tuple[float, float, float, float], int]) -> BoxTable:
    return BoxTable(
        video=np.zeros(len(rows), np.int64),
        second=np.zeros(len(rows)),
        box=np.array([box for box, _ in rows], np.float64).reshape(-1, 4),
        label=np.array([label for _, label in rows], np.int64),
        entity=np.full(len(rows), -1, np.int64),
        score=None,
        videos=("v",),
        labels=("sit", "talk", "run"),
    )


ONE, OTHER = (0.1, 0.1, 0.4, 0.8), (0.5, 0.2, 0.9, 0.9)
TRUTH = table((ONE, 0), (ONE, 2), (OTHER, 2), (ONE, 0))
OWNER = np.array([0, 0, 0, 2])


def test_rows_of_one_box_are_one_actor_of_several_actions() -> None:
    actors = actors_of(TRUTH, OWNER, 0, WHOLE)
    assert actors.box.tolist() == [pytest.approx(ONE), pytest.approx(OTHER)]
    assert [labels.tolist() for labels in actors.labels] == [[0, 2], [2]]
    target = target_of(actors, ((0, "sit"), (2, "run")))
    assert target.actions.tolist() == [[1, 1], [0, 1]]
    assert len(target_of(actors_of(TRUTH, OWNER, 1, WHOLE), ((0, "sit"),))) == 0


def test_what_the_view_cuts_off_is_no_actor() -> None:
    left_half = np.array([0.0, 0.0, 0.5, 1.0])
    (box,) = actors_of(TRUTH, OWNER, 0, left_half).box
    assert box.tolist() == pytest.approx([0.2, 0.1, 0.8, 0.8])


def test_each_class_must_have_a_box_to_learn_from() -> None:
    actors = [actors_of(TRUTH, OWNER, key, WHOLE) for key in range(3)]
    splits = np.array(["train", "none", "val"])
    assert classes_of(TRUTH, actors, splits, where="heads/who") == ((0, "sit"), (2, "run"))
    with pytest.raises(ReelmillError, match="class 'run' has no box at a training keyframe"):
        classes_of(TRUTH, actors, splits[::-1], where="heads/who")
    with pytest.raises(ReelmillError, match="there is no box at any keyframe that has maps"):
        classes_of(TRUTH, actors[1:2], splits[1:2], where="heads/who")
