import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations.report import Report
from pipeline.annotations.tube_json import files_of, read_predictions, read_truth, write_tubes
from schemas.annotation import Tube, TubeSet, VideoShape
from schemas.errors import UsageError

BOXES = [[10, 20, 30, 40], [11, 20, 30, 40]]


def tube(label: object = "run", start: object = 5, end: object = 7, boxes: object = BOXES, **more: object) -> Any:
    return {"label": label, "start_frame": start, "end_frame": end, "boxes_xywh": boxes, **more}


def video(name: object, *tubes: object, **more: object) -> Any:
    return {"video": name, "num_frames": 20, **more, "tubes": tubes}


def test_one_video_many_videos_and_folders(write, tmp_path) -> None:
    size = {"fps": 29.97, "width": 320, "height": 240}
    first, second = video("a.avi", tube(person_id=3), **size), video("b.avi", tube("jump"), tube())
    one = read_truth(write("f/1.json", json.dumps(first)))
    assert (one.videos, one.labels, one.shapes) == (("a.avi",), ("run",), (VideoShape(20, 29.97, 320, 240),))
    assert one.tubes[0].boxes.tolist() == [[10, 20, 40, 60], [11, 20, 41, 60]]
    assert (one.tubes[0].start_frame, one.tubes[0].end_frame, one.tubes[0].score) == (5, 7, None)
    write("f/2.json", json.dumps({"videos": [second, video("empty.avi")]}))
    write("f/notes.txt", "")
    many = read_truth(str(tmp_path / "f"))
    assert (many.videos, many.labels) == (("a.avi", "b.avi", "empty.avi"), ("jump", "run"))
    assert [(t.video, t.label) for t in many.tubes] == [(0, 1), (1, 0), (1, 1)]
    assert [path.rpartition("/")[2] for path in files_of(str(tmp_path / "f"))] == ["1.json", "2.json"]


BAD_TUBES = [
    3,
    {},
    tube(label=""),
    tube(label=None),
    tube(start=-1, end=1),
    tube(start=5.0),
    tube(end=8),
    tube(start=7, end=5, boxes=[]),
    tube(end=5, boxes=[]),
    tube(boxes=[[1, 2, 3]] * 2),
    tube(boxes=[[1, 2, 3, float("nan")]] * 2),
    tube(boxes=[[1, 2, 3, 10**400]] * 2),
    tube(boxes="none"),
    tube(score="high"),
    tube(score=float("inf")),
    tube(box_scores=[1]),
]


@pytest.mark.parametrize("bad", BAD_TUBES, ids=lambda bad: json.dumps(bad)[:60])
def test_a_bad_tube_is_dropped(write, bad) -> None:
    report = Report()
    tubes = read_truth(write("a.json", json.dumps(video("a", bad, tube()))), report=report)
    assert len(tubes) == 1
    assert report.counts == {"bad_tube": 1}


@pytest.mark.parametrize(
    "bad",
    [
        *(3, video(""), video(7), {"video": "b"}, video("b", num_frames=0), video("b", num_frames=2.5)),
        *(video("b", fps=-1), video("b", width="wide"), video("b", height=True)),
    ],
)
def test_a_bad_video_is_dropped(write, bad) -> None:
    report = Report()
    assert read_truth(write("a.json", json.dumps({"videos": [bad, video("a")]})), report=report).videos == ("a",)
    assert report.counts == {"malformed_row": 1}


def test_the_first_of_two_videos_is_kept_and_a_broken_file_of_a_folder_left_out(write, tmp_path) -> None:
    write("f/1.json", json.dumps(video("a", tube())))
    write("f/2.json", json.dumps(video("a", tube("jump"))))
    write("f/3.json", "{")
    report = Report()
    tubes = read_truth(str(tmp_path / "f"), report=report)
    assert (tubes.labels, len(tubes)) == (("run",), 1)
    assert report.counts == {"duplicate_row": 1, "unreadable_file": 1}


def test_other_files_are_refused(write, tmp_path) -> None:
    for text in ("", "{", "[]", "{}", '{"videos": 3}', "\udcff"):
        with pytest.raises(UsageError, match=r"a\.json: not "):
            read_truth(write("a.json", text))
    with pytest.raises(UsageError, match=r"UCF101v2-GT\.pkl: a pickle runs the code in it when it is read"):
        read_truth(write("UCF101v2-GT.pkl", "cos\nsystem\n"))
    with pytest.raises(UsageError, match="there is none"):
        read_truth(str(tmp_path / "none.json"))
    write("empty/notes.txt", "")
    with pytest.raises(UsageError, match="no json with tubes in this folder"):
        read_truth(str(tmp_path / "empty"))


def test_predictions_are_numbered_as_the_truth(write) -> None:
    truth = read_truth(write("t.json", json.dumps({"videos": [video("a", tube()), video("b", tube("jump"))]})))
    found = [
        video("z", tube(score=0.5, box_scores=[1, 0.5]), tube(), num_frames=None),
        video("b", tube("fly", score=1), tube("jump", score=0)),
    ]
    path = write("p.json", json.dumps({"videos": found}))
    with pytest.raises(UsageError, match="b has a tube of 'fly', a class that the truth does not know"):
        read_predictions(path, truth=truth)
    report = Report()
    tubes = read_predictions(path, truth=truth, unknown="drop", report=report)
    assert (tubes.videos, tubes.labels) == (("a", "b", "z"), ("jump", "run"))
    assert [(t.video, t.label, t.score) for t in tubes.tubes] == [(2, 1, 0.5), (1, 0, 0)]
    assert tubes.tubes[0].box_scores.tolist() == [1, 0.5]
    assert tubes.shapes[2] == VideoShape(7)
    assert report.counts == {"bad_score": 1, "unknown_class": 1}
    assert read_predictions(path).labels == ("fly", "jump", "run")


EDGE = st.integers(-4000, 4000).map(lambda quarter: quarter / 4)  # such sums and differences are exact


@st.composite
def tube_sets(draw: st.DrawFn) -> TubeSet:
    tubes = []
    for index in sorted(draw(st.lists(st.integers(0, 1), max_size=4))):
        boxes = np.array(draw(st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), min_size=1, max_size=3)), np.float64)
        scores = draw(st.none() | st.just(np.linspace(0, 1, len(boxes))))
        score = draw(st.floats(allow_nan=False, allow_infinity=False))
        tubes.append(Tube(index, draw(st.integers(0, 1)), draw(st.integers(0, 9)), boxes, score, scores))
    shapes = (VideoShape(40, 29.97, 320, 240), VideoShape(12))
    return TubeSet(tuple(tubes), ("a.mp4", "b é"), ("jump", "run"), shapes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(tubes=tube_sets())
def test_written_tubes_are_read_back(tmp_path, tubes) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(write_tubes(tubes))
    back = read_predictions(str(path), truth=tubes)
    assert (back.videos, back.labels, back.shapes) == (tubes.videos, tubes.labels, tubes.shapes)
    for one, other in zip(back.tubes, tubes.tubes, strict=True):
        facts = [(t.video, t.label, t.start_frame, t.score) for t in (one, other)]
        assert facts[0] == facts[1]
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.box_scores, other.box_scores)
    assert write_tubes(back) == path.read_bytes()


def test_the_real_tube(real) -> None:
    report = Report()
    tubes = read_truth(real("ucf101_24"), report=report)
    assert (tubes.videos, tubes.labels) == (("v_SoccerJuggling_g23_c01.avi",), ("SoccerJuggling",))
    assert tubes.shapes == (VideoShape(240),)
    assert (tubes.tubes[0].start_frame, tubes.tubes[0].end_frame) == (0, 240)
    assert tubes.tubes[0].boxes[0].tolist() == [135, 55, 199, 179]
    assert not report.counts


def test_the_tubes_of_synth(synth_root) -> None:
    report = Report()
    tubes = read_truth(str(synth_root / "untrimmed" / "tubes"), report=report)
    assert len(tubes.videos) == 5
    assert tubes.shapes[0].fps == 10
    assert not report.counts
