import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations.ava import (
    ActionList,
    drop_excluded,
    read_actions,
    read_exclusions,
    read_frames,
    read_labels,
    read_predictions,
    read_proposals,
    write_csv,
)
from pipeline.annotations.report import Report
from schemas.annotation import BoxTable
from schemas.errors import UsageError

ACTIONS = ActionList(("dance", "fall down"), (3, 5))
BOX = "0.1,0.2,0.3,0.4"


@pytest.mark.parametrize(
    "text",
    [
        'item {\n  name: "dance"\n  id: 3\n}\nitem {\n  name: "fall down"\n  id: 5\n}\n',
        'label {\n  name: "dance"\n  label_id: 3\n  label_type: X_Y\n}\n'
        'label {name: "fall down" label_id: 5 label_type: Z}',
        '\ufeff# actions\r\nitem { id: 3 name: "dance" }\r\n\r\nitem { id: 5, name: "fall down" }',
    ],
)
def test_action_lists(write, text) -> None:
    assert read_actions(write("list.pbtxt", text)) == ACTIONS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an action list: .* got 'an empty file'"),
        ("dance\n", "got 'dance'"),
        ('item { name: "a" id: 1 } item {', "got 'item {'"),
        ('item { name: "a" }', r"want a name and an id of digits, got { name: \"a\" }"),
        ('item { name: "a" id: -1 }', "id of digits"),
        ('item { name: "a" id: 1 ? }', "id of digits"),
        ('item { name: "" id: 1 }', "want a name"),
        ('item { name: "a" id: 1 } item { name: "a" id: 2 }', "has the name 'a' twice"),
        ('item { name: "a" id: 1 } item { name: "b" id: 1 }', "has the id 1 twice"),
        ('item { name: "\udcff" id: 1 }', "is not UTF-8"),
    ],
)
def test_other_files_are_no_action_lists(write, text, message) -> None:
    with pytest.raises(UsageError, match=message):
        read_actions(write("list.pbtxt", text))


def test_labels(write) -> None:
    first = write("a.csv", f"v1,0902,{BOX},5,7\nv1,0902,{BOX},3,7\n\nv2,0903,0,0,1,1,3\n")
    second = write("b.csv", f"v1, 0904 ,{BOX},3,0\r\n")
    report = Report()
    table = read_labels([first, second], actions=ACTIONS, report=report)
    assert (table.videos, table.labels) == (("v1", "v2"), ACTIONS.names)
    assert table.video.tolist() == [0, 0, 1, 0]
    assert table.second.tolist() == [902, 902, 903, 904]
    assert table.label.tolist() == [1, 0, 0, 0]
    assert table.entity.tolist() == [7, 7, -1, 0]
    assert table.box[2].tolist() == [0, 0, 1, 1]
    assert table.score is None
    assert not report.counts


def test_without_a_list_the_ids_are_the_names(write) -> None:
    table = read_labels([write("a.csv", f"v,1,{BOX},12,0\nv,1,{BOX},3,0\n")])
    assert (table.labels, table.label.tolist()) == (("3", "12"), [1, 0])


BAD_LINES = {
    f"v,1,{BOX}": "malformed_row",
    f"v,1,{BOX},3,0,0": "malformed_row",
    f",1,{BOX},3,0": "malformed_row",
    f"v,x,{BOX},3,0": "malformed_row",
    f"v,nan,{BOX},3,0": "malformed_row",
    f"v,1,{BOX},,0": "malformed_row",
    f"v,1,{BOX},dance,0": "malformed_row",
    f"v,1,{BOX},3,me": "malformed_row",
    f"v\udcff,1,{BOX},3,0": "malformed_row",
    "v,1,0,0,1,nan,3,0": "bad_box",
    "v,1,0,0,,1,3,0": "bad_box",
    "v,1,0,0,inf,1,3,0": "bad_box",
    f"v,1,{BOX},4,0": "unknown_class",
    f"v,1,{BOX},{'9' * 400},0": "malformed_row",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_dropped_and_named(write, line) -> None:
    report = Report()
    table = read_labels([write("a.csv", f"v,1,{BOX},3,0\n{line}\nv,2,{BOX},5,0\n")], actions=ACTIONS, report=report)
    assert table.second.tolist() == [1, 2]
    assert report.counts == {BAD_LINES[line]: 1}
    assert "a.csv line 2: " in report.lines()[0]


def test_headers_and_lines_without_a_box_are_no_problem(write) -> None:
    report = Report()
    text = f"video_id,second,x1,y1,x2,y2,action,person\nv,1,,,,,,\nv,2,{BOX},3,0\nv,3\nv,4,{BOX},3,0\n"
    path = write("a.csv", text)
    assert len(read_labels([path], actions=ACTIONS, report=report)) == 2
    assert not report.counts
    assert read_frames([path]) == {("v", 1), ("v", 2), ("v", 3), ("v", 4)}


def test_a_frame_whose_actions_are_not_evaluated_is_annotated_all_the_same(write) -> None:
    path = write("a.csv", f"v,1,{BOX},4,0\nv,x,{BOX},4,0\n,2\n")
    assert len(read_labels([path], actions=ACTIONS)) == 0
    assert read_frames([path]) == {("v", 1)}


def test_excluded_frames(write) -> None:
    report = Report()
    excluded = read_exclusions([write("x.csv", "v,0902\nw,903\nbad\nv,x\n")], report=report)
    assert excluded == {("v", 902), ("w", 903)}
    assert report.counts == {"malformed_row": 2}
    path = write("a.csv", f"v,902,{BOX},3,0\nv,903,{BOX},3,0\n")
    assert read_labels([path], actions=ACTIONS, excluded=excluded, report=report).second.tolist() == [903]
    assert report.counts["excluded_frame"] == 1
    assert drop_excluded(read_labels([path], actions=ACTIONS), excluded).second.tolist() == [903]


def test_predictions_are_numbered_as_the_truth(write) -> None:
    truth = read_labels([write("a.csv", f"v,1,{BOX},3,0\nw,1,{BOX},3,0\n")], actions=ACTIONS)
    report = Report()
    text = f"w,1,{BOX},5,0.25\nz,1,{BOX},3,1e-3\nv,1,{BOX},3\nv,1,{BOX},3,nan\nv,1,{BOX},4,1\n"
    table = read_predictions(write("p.csv", text), actions=ACTIONS, truth=truth, report=report)
    assert table.videos == ("v", "w", "z")
    assert table.video.tolist() == [1, 2, 0]
    assert table.score.tolist() == [0.25, 1e-3, 1]
    assert report.counts == {"bad_score": 1, "unknown_class": 1, "no_score": 1}


def test_proposals(write) -> None:
    text = f"v,1,{BOX}\nv,1,0,0,1,1,0.75\nv,2,{BOX},,0.5\nv,2,{BOX},17,0.5\n"
    table = read_proposals(write("p.csv", text), videos=("w",))
    assert (table.videos, table.labels) == (("w", "v"), ("person",))
    assert table.second.tolist() == [1, 1, 2]
    assert table.score.tolist() == [1, 0.75, 0.5]
    with pytest.raises(UsageError, match=r"l\.csv line 1: a proposal's score is in \[0, 1\], got 17; are these labels"):
        read_proposals(write("l.csv", f"v,1,{BOX},3,17\n"))
    with pytest.raises(UsageError, match=r"x\.pkl: a pickle runs the code in it"):
        read_proposals(write("x.pkl", "cos\nsystem\n"))


EDGE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def boxes(draw: st.DrawFn, *, scored: bool) -> BoxTable:
    videos = draw(st.lists(st.text("ab_-é.", min_size=1, max_size=4), min_size=1, max_size=3, unique=True))
    num = draw(st.integers(0, 6))
    column = st.lists(st.integers(0, len(videos) - 1), min_size=num, max_size=num)
    label = st.lists(st.integers(0, 1), min_size=num, max_size=num)
    entity = st.lists(st.integers(-1, 2**60), min_size=num, max_size=num)
    second = st.lists(EDGE | st.integers(0, 2000).map(float), min_size=num, max_size=num)
    box = st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), min_size=num, max_size=num)
    score = st.lists(EDGE, min_size=num, max_size=num)
    return BoxTable(
        video=np.array(draw(column), np.int64),
        second=np.array(draw(second), np.float64),
        box=np.array(draw(box), np.float64).reshape(-1, 4),
        label=np.array(draw(label), np.int64),
        entity=np.full(num, -1) if scored else np.array(draw(entity), np.int64),
        score=np.array(draw(score), np.float64) if scored else None,
        videos=tuple(videos),
        labels=ACTIONS.names,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(table=boxes(scored=True))
def test_written_predictions_are_read_back(tmp_path, table) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(write_csv(table, ACTIONS))
    back = read_predictions(str(path), actions=ACTIONS, truth=table)
    for name in ("video", "second", "box", "label", "entity", "score"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    assert write_csv(back, ACTIONS) == path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(table=boxes(scored=False))
def test_written_labels_are_read_back(tmp_path, table) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(write_csv(table, ACTIONS))
    back = read_labels([str(path)], actions=ACTIONS)
    for name in ("second", "box", "label", "entity"):
        np.testing.assert_array_equal(getattr(back, name), getattr(table, name))
    assert [back.videos[v] for v in back.video] == [table.videos[v] for v in table.video]


def test_what_a_csv_cannot_hold() -> None:
    table = BoxTable(
        *(np.zeros(1, np.int64), np.zeros(1), np.zeros((1, 4)), np.zeros(1, np.int64), np.zeros(1, np.int64), None),
        videos=("a,b",),
        labels=ACTIONS.names,
    )
    with pytest.raises(ValueError, match="can't hold a video of the name 'a,b'"):
        write_csv(table, ACTIONS)
    with pytest.raises(ValueError, match="not those of the action list"):
        write_csv(table, ActionList(("x",), (1,)))


def test_the_published_action_list(real) -> None:
    actions = read_actions(real("ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"))
    assert len(actions.names) == 60
    assert (actions.names[0], actions.ids[0]) == ("bend/bow (at the waist)", 1)
    assert (actions.ids[-1], actions.places[80]) == (80, 59)


def test_the_files_of_synth(synth_root) -> None:
    folder = synth_root / "untrimmed" / "ava"
    actions, report = read_actions(str(folder / "action_list.pbtxt")), Report()
    table = read_labels([str(folder / f"{s}.csv") for s in ("train", "test")], actions=actions, report=report)
    assert not report.counts
    tubes = json.loads((synth_root / "untrimmed" / "tubes" / f"{table.videos[0]}.json").read_text())
    here = (table.video == 0) & (table.second == 1)
    shown = [tube for tube in tubes["tubes"] if tube["start_frame"] <= 10 < tube["end_frame"]]
    assert [actions.names[k] for k in table.label[here]] == [tube["label"] for tube in shown]
    assert table.entity[here].tolist() == [tube["person_id"] for tube in shown]
