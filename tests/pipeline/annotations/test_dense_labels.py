import numpy as np
import pytest

from pipeline.annotations.dense_labels import read_charades, read_classes, read_multithumos
from pipeline.annotations.report import Report
from schemas.annotation import SegmentTable
from schemas.errors import UsageError

HEADER = "id,subject,scene,quality,script,actions,length\n"


def rows(table: SegmentTable) -> list[tuple[str, float, float, str]]:
    columns = (table.video, table.start_s, table.end_s, table.label)
    return [(table.videos[v], float(s), float(e), table.labels[k]) for v, s, e, k in zip(*columns, strict=True)]


def test_charades(write) -> None:
    text = (
        f'{HEADER}46GP8,HR43,Kitchen,6,"A person, who\ncooks",c092 11.90 21.20;c147 0.00 12.60,24.83\n'
        "N11GT,0KZ7,Stairs,5,Nothing.,,18.33\n"
        "0IH69,6RE8,Bedroom,,,c147 1 2,x\n"
    )
    report = Report()
    table = read_charades(write("Charades_v1_train.csv", text), report=report)
    assert rows(table) == [("46GP8", 11.9, 21.2, "c092"), ("46GP8", 0, 12.6, "c147"), ("0IH69", 1, 2, "c147")]
    assert table.videos == ("46GP8", "N11GT", "0IH69")
    assert table.subset == ("training",) * 3
    np.testing.assert_array_equal(table.duration_s, [24.83, 18.33, np.nan])
    assert not report.counts


def test_charades_classes_have_names(write) -> None:
    classes = read_classes(write("classes.txt", "c000 Holding some clothes\nc147 Sitting down\r\n\n"))
    report = Report()
    path = write("test.csv", f"{HEADER}a,,,,,c147 1 2;c000 2 1;c092 1 2,9\n")
    table = read_charades(path, classes=classes, report=report)
    assert table.labels == ("Holding some clothes", "Sitting down")
    assert table.label.tolist() == [1, 0]
    assert table.subset == ("test",)
    assert report.counts == {"unknown_class": 1}


@pytest.mark.parametrize("line", ["Holding", "c00 ", "c000 x", "c001 Holding", "c001 \udcff"])
def test_bad_lists_of_classes_are_refused(write, line) -> None:
    with pytest.raises(UsageError, match=r"classes\.txt line 2: "):
        read_classes(write("classes.txt", f"c000 Holding\n{line}\n"))


@pytest.mark.parametrize("action", ["c092", "c092 1", "c092 1 2 3", "92 1 2", "c092 a 2", "c092 1 inf"])
def test_a_bad_action_is_dropped(write, action) -> None:
    report = Report()
    table = read_charades(write("a.csv", f"{HEADER}a,,,,,c001 1 2;{action};,9\n"), report=report)
    assert rows(table) == [("a", 1, 2, "c001")]
    assert report.counts == {"bad_segment": 1}


def test_bad_rows_are_dropped_and_another_file_is_refused(write) -> None:
    text = f"{HEADER}a,,,,,c001 1 2,9\na,,,,,c001 3 4,9\nb\n,,,,,c001 1 2,9\nc,,,,,c001 1 2,9,9\nd\udcff,,,,,,9\n"
    report = Report()
    assert rows(read_charades(write("a.csv", text), report=report)) == [("a", 1, 2, "c001")]
    assert report.counts == {"duplicate_row": 1, "malformed_row": 4}
    with pytest.raises(UsageError, match="it has no column actions"):
        read_charades(write("b.csv", "id,labels\n"))
    with pytest.raises(UsageError, match=r"c\.csv: not csv"):
        read_charades(write("c.csv", f'{HEADER}a,"b'))


def test_multithumos(write, tmp_path) -> None:
    write("annotations/Run.txt", "video_validation_0000001 1.5 2\nvideo_test_0000001 1 2\n")
    write("annotations/Jump.txt", "video_test_0000001 1 2\n")
    table = read_multithumos(str(tmp_path / "annotations"), subset="test")
    assert rows(table) == [("video_test_0000001", 1, 2, "Jump"), ("video_test_0000001", 1, 2, "Run")]
