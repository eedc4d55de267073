import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations.report import Report
from pipeline.annotations.thumos14 import (
    CLASS_NUMBERS,
    CLASSES,
    read_predictions,
    read_truth,
    trained_on_validation,
    write_predictions,
)
from schemas.annotation import AMBIGUOUS, SegmentTable
from schemas.errors import UsageError

HEADER = "video-name,t-init,t-end,f-init,f-end,video-duration,frame-rate,video-frames,label-idx\n"


def rows(table: SegmentTable) -> list[tuple[str, float, float, int]]:
    columns = (table.video, table.start_s, table.end_s, table.label)
    return [(table.videos[v], float(s), float(e), int(k)) for v, s, e, k in zip(*columns, strict=True)]


@pytest.fixture
def folder(write, tmp_path) -> str:
    write("a/Diving_test.txt", "video_test_0000006  4.5 9.1\nvideo_test_0000004 1.0  2.5\r\n\n")
    write("a/Diving_val.txt", "video_validation_0000051 1 2\n")
    write("a/Billiards_test.txt", "video_test_0000004 0 1\n")
    write("a/Ambiguous_test.txt", "video_test_0000004 5 6\n")
    write("a/readme.txt", "This folder contains the annotations\n\nof 20 classes\n")
    write("a/list.csv", "")
    return str(tmp_path / "a")


def test_a_folder_of_text_files(folder) -> None:
    report = Report()
    table = read_truth(folder, report=report)
    assert table.labels == ("Billiards", "Diving")
    assert rows(table) == [
        ("video_test_0000004", 5, 6, AMBIGUOUS),
        ("video_test_0000004", 0, 1, 0),
        ("video_test_0000006", 4.5, 9.1, 1),
        ("video_test_0000004", 1, 2.5, 1),
        ("video_validation_0000051", 1, 2, 1),
    ]
    assert table.subset == ("test", "test", "validation")
    assert report.counts == {"unreadable_file": 1}
    assert read_truth(folder, subset="val").videos == ("video_validation_0000051",)
    with pytest.raises(UsageError, match="no video is of the subset 'training'; it has test, validation"):
        read_truth(folder, subset="training")


@pytest.mark.parametrize("line", ["v 1", "v 1 2 3", "v one 2", "v 1 nan", "v\udcff 1 2"])
def test_a_bad_line_is_dropped(write, tmp_path, line) -> None:
    write("a/Diving.txt", f"v 1 2\n{line}\nw 3 2\n")
    report = Report()
    table = read_truth(str(tmp_path / "a"), report=report)
    assert rows(table) == [("v", 1, 2, 0), ("w", 3, 2, 0)]
    assert table.subset == (None, None)
    assert report.counts == {"malformed_row": 1}
    assert "Diving.txt line 2: " in report.lines()[0]


def test_detectors_are_trained_on_the_validation_videos(folder, real) -> None:
    assert trained_on_validation(read_truth(folder)).subset == ("test", "test", "training")
    published = read_truth(real("thumos14/thumos14_anno_action.json"))
    assert trained_on_validation(published).subset == published.subset


def test_nothing_to_read_is_refused(write, tmp_path) -> None:
    write("a/Diving.txt", "video start end\n")
    for path in (str(tmp_path / "a"), write("a.csv", HEADER)):
        with pytest.raises(UsageError, match="no labelled segment"):
            read_truth(path)
    with pytest.raises(UsageError, match="can't list this folder"):
        read_truth(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="it has no column t-init"):
        read_truth(write("b.csv", "video-name,start\n"))
    with pytest.raises(UsageError, match="it has no column video-name"):
        read_truth(write("c.csv", ""))


def test_csv(write) -> None:
    good = "video_test_0000004,1.5,2,0,0,33.5,30,0,7\nvideo_test_0000004,3,4,0,0,33.5,30,0,-1\n"
    bad = ["v,1,2", "v,x,2,0,0,9,30,0,1", "v,1,2,0,0,9,30,0,20", "v,1,2,0,0,9,30,0,1.5", "v\udcff,1,2,0,0,9,30,0,1"]
    report = Report()
    table = read_truth(write("a.csv", HEADER + good + "\n" + "\n".join(bad) + "\n"), report=report)
    assert rows(table) == [("video_test_0000004", 1.5, 2, 7), ("video_test_0000004", 3, 4, AMBIGUOUS)]
    assert (table.labels, table.duration_s.tolist(), table.subset) == (CLASSES, [33.5], ("test",))
    assert report.counts == {"malformed_row": len(bad)}


def test_the_published_files_say_the_same(real, tmp_path) -> None:
    report = Report()
    of_json = read_truth(real("thumos14/thumos14_anno_action.json"), subset="test", report=report)
    of_csv = read_truth(real("thumos14/thumos14_test_groundtruth.csv"), report=report)
    whole = read_truth(real("thumos14/thumos14_anno_action.json"), report=report)
    assert of_json.labels == of_csv.labels == whole.labels == CLASSES
    assert sorted(rows(of_json)) == sorted(rows(of_csv))
    assert (len(of_csv), len(of_csv.ambiguous()), len(of_csv.videos)) == (3457, 99, 213)
    assert (len(whole), len(whole.videos)) == (6553, 413)
    files: dict[str, str] = {}
    for name, start_s, end_s, label in rows(of_csv):
        key = f"{CLASSES[label] if label >= 0 else 'Ambiguous'}_test.txt"
        files[key] = files.get(key, "") + f"{name}  {start_s} {end_s}\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert sorted(rows(read_truth(str(tmp_path), report=report))) == sorted(rows(of_csv))
    assert not report.counts


def test_class_numbers_are_those_of_the_published_json(real) -> None:
    entries = json.loads(Path(real("thumos14/thumos14_anno_action.json")).read_text()).values()
    found = {a["class"]: a["label"] for entry in entries for a in entry["annotations"]}
    assert found == {**CLASS_NUMBERS, "Ambiguous": 0}


def test_predictions(write, folder) -> None:
    truth = read_truth(folder)
    path = write("p.txt", "z 1 2 26 0.5\nvideo_test_0000006  1.5 2 Billiards 1e-3\n\nbad\nz 1 2 26 nan\nz 1 2 7 1\n")
    with pytest.raises(UsageError, match=r"p\.txt line 6: the class 7 is none that the truth knows"):
        read_predictions(path, truth=truth)
    report = Report()
    table = read_predictions(path, truth=truth, unknown="drop", report=report)
    assert table.videos == (*truth.videos, "z")
    assert rows(table) == [("z", 1, 2, 1), ("video_test_0000006", 1.5, 2, 0)]
    assert table.score.tolist() == [0.5, 1e-3]
    assert report.counts == {"malformed_row": 2, "unknown_class": 1}
    assert read_predictions(path).labels == CLASSES


NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def test_a_known_video_may_be_named_as_its_file(write, folder) -> None:
    path = write("found.txt", "video_test_0000006.mp4 1 2 Diving 0.5\nother.mp4 1 2 Diving 0.5\n")
    table = read_predictions(path, truth=read_truth(folder, subset="test"))
    assert [table.videos[video] for video in table.video] == ["video_test_0000006", "other.mp4"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(found=st.lists(st.tuples(st.integers(0, 2), NUMBER, NUMBER, st.integers(0, 20), NUMBER), max_size=6))
def test_written_detections_are_read_back(tmp_path, found) -> None:
    columns = [np.array([row[i] for row in found], np.float64) for i in range(5)]
    video, label = columns[0].astype(np.int64), columns[3].astype(np.int64)
    names = (("a", "b_é", "c"), (*CLASSES, "run"))
    table = SegmentTable(video, columns[1], columns[2], label, columns[4], *names)
    path = tmp_path / "p.txt"
    path.write_bytes(write_predictions(table))
    back = read_predictions(str(path), truth=table)
    assert (rows(back), back.score.tolist()) == (rows(table), table.score.tolist())


def test_what_cannot_be_written(folder) -> None:
    none, empty = np.zeros(0, np.int64), np.zeros(0)
    with pytest.raises(ValueError, match="can't hold the name 'a b'"):
        write_predictions(SegmentTable(none, empty, empty, none, empty, ("a b",), ()))
    with pytest.raises(ValueError, match="with scores"):
        write_predictions(read_truth(folder))
