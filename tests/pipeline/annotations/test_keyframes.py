import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations.ava import read_actions, read_labels
from pipeline.annotations.keyframes import boxes_at, segments_of, with_shapes
from pipeline.annotations.tube_json import read_truth
from schemas.annotation import Tube, TubeSet, VideoShape
from schemas.errors import UsageError

SHAPE = VideoShape(20, 10.0, 40, 20)


def tubes(*found: Tube, shape: VideoShape = SHAPE) -> TubeSet:
    return TubeSet(found, ("v", "w"), ("jump", "run"), (shape, shape))


def tube(video: int, start: int, num: int, **scores: object) -> Tube:
    boxes = np.array([[4 * i, 2, 4 * i + 8, 10] for i in range(num)], np.float64)
    return Tube(video, 1, start, boxes, **scores)


def test_the_frame_on_display_and_its_boxes_in_shares() -> None:
    table = boxes_at(tubes(tube(0, 2, 3), tube(0, 3, 9)), video=np.array([0, 0, 1]), second=np.array([0.25, 0.35, 0.3]))
    assert table.second.tolist() == [0.25, 0.35, 0.35]
    assert table.box.tolist() == [[0, 0.1, 0.2, 0.5], [0.1, 0.1, 0.3, 0.5], [0, 0.1, 0.2, 0.5]]
    assert table.entity.tolist() == [0, 0, 1]
    assert (table.videos, table.score) == (("v", "w"), None)


def test_a_video_may_begin_late() -> None:
    found = tubes(tube(0, 2, 1))
    assert len(boxes_at(found, video=np.array([0]), second=np.array([0.25]), first_s=[1.0, 0])) == 0
    assert len(boxes_at(found, video=np.array([0]), second=np.array([1.25]), first_s=[1.0, 0])) == 1
    assert segments_of(found, first_s=[1.0, 0]).start_s.tolist() == [1.2]


def test_scores_are_the_boxes_or_the_tubes() -> None:
    own = tube(0, 0, 2, score=0.5, box_scores=np.array([0.25, 0.75]))
    table = boxes_at(tubes(own, tube(0, 0, 2, score=0.125)), video=np.array([0]), second=np.array([0.1]))
    assert table.score.tolist() == [0.75, 0.125]


@given(frame=st.integers(0, 10**6), fps=st.sampled_from([10.0, 25.0, 29.97, 30000 / 1001, 59.94]))
def test_a_second_that_was_a_frame_is_that_frame(frame, fps) -> None:
    found = tubes(tube(0, frame, 1), shape=VideoShape(10**7, fps, 40, 20))
    assert len(boxes_at(found, video=np.array([0]), second=np.array([frame / fps]))) == 1
    assert len(boxes_at(found, video=np.array([0]), second=np.array([(frame + 1) / fps]))) == 0
    assert len(boxes_at(found, video=np.array([0]), second=np.array([(frame + 0.5) / fps]))) == 1


def test_seconds_of_tubes() -> None:
    table = segments_of(tubes(tube(1, 5, 10), tube(0, 0, 1)))
    assert list(zip(table.video, table.start_s, table.end_s, strict=True)) == [(1, 0.5, 1.5), (0, 0, 0.1)]
    assert table.score is None
    assert segments_of(tubes(tube(1, 5, 10, score=0.25))).score.tolist() == [0.25]


def test_what_the_file_does_not_say_comes_from_elsewhere() -> None:
    bare = tubes(tube(0, 0, 5), shape=VideoShape(5))
    for use in (lambda t: boxes_at(t, video=np.array([0]), second=np.array([0.1])), segments_of):
        with pytest.raises(UsageError, match="v: its tubes come without fps"):
            use(bare)
    told = with_shapes(bare, {"v": VideoShape(99, 10.0, 40, 20)})
    assert told.shapes == (VideoShape(5, 10.0, 40, 20), VideoShape(5))
    assert boxes_at(told, video=np.array([0]), second=np.array([0.1])).box.tolist() == [[0.1, 0.1, 0.3, 0.5]]


def test_the_two_files_of_synth_say_the_same(synth_root) -> None:
    root = synth_root / "untrimmed"
    boxes = read_labels(
        [str(root / "ava" / "train.csv")], actions=read_actions(str(root / "ava" / "action_list.pbtxt"))
    )
    found = read_truth(str(root / "tubes"))
    names = [name.removesuffix(".mp4") for name in found.videos]
    for index, name in enumerate(boxes.videos):
        rows = boxes.select(boxes.video == index)
        instants = np.unique(rows.second)
        made = boxes_at(found, video=np.full(len(instants), names.index(name)), second=instants)
        assert [found.labels[k] for k in made.label] == [boxes.labels[k] for k in rows.label]
        np.testing.assert_allclose(made.box, rows.box, atol=6e-5)
