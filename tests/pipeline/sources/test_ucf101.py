import pytest

from schemas.errors import UsageError

APPLY, PITCH = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "BaseballPitch/v_BaseballPitch_g01_c01.avi"
PITCH_2 = "BaseballPitch/v_BaseballPitch_g02_c01.avi"


@pytest.fixture
def splits(write):
    write("splits/classInd.txt", "1 ApplyEyeMakeup\r\n2 BaseballPitch\r\n")
    write("splits/trainlist01.txt", f"{APPLY} 1\r\n{PITCH} 2\r\n")
    write("splits/testlist01.txt", f"{PITCH_2}\n")
    write("splits/trainlist02.txt", f"{PITCH_2} 2\n")
    return write("splits/testlist02.txt", f"{APPLY}\n{PITCH}\n").parent


def test_folds(make_tree, splits, index, column, issues_of) -> None:
    root = make_tree(APPLY, PITCH, PITCH_2, "BaseballPitch/extra.avi")
    one = index(kind="ucf101", videos=root, splits=splits)
    assert one.labels == ["ApplyEyeMakeup", "BaseballPitch"]
    assert list(column(one, "split").values()) == ["train", "train", "test"]
    assert list(column(one, "label_ids").values()) == [[0], [1], [1]]
    assert issues_of(one) == [("file_without_row", None, "BaseballPitch/extra.avi")]
    two = index(kind="ucf101", videos=root, splits=splits, fold=2)
    assert list(column(two, "split").values()) == ["test", "test", "train"]


def test_a_flat_folder(make_tree, splits, index, column, issues_of) -> None:
    root = make_tree(APPLY.split("/")[1], f"some/{PITCH.split('/')[1]}")
    indexed = index(kind="ucf101", videos=root, splits=splits)
    assert list(column(indexed, "label_ids").values()) == [[1], [0]]
    assert issues_of(indexed) == [("row_without_file", 1, PITCH_2)]


BAD = {
    f"{APPLY} 2": "trainlist01.txt: class ApplyEyeMakeup is number 1 in classInd.txt, not 2",
    "Archery/v.avi 1": "class 'Archery' is not in classInd.txt",
    "v_ApplyEyeMakeup_g08_c01.avi 1": "want `Class/name.avi`",
    f"{APPLY} 1 1": "want `Class/name.avi`",
    f"{APPLY[:-4]}\udcff.avi 1": "not UTF-8",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_malformed_row_costs_itself_only(make_tree, splits, write, index, bad) -> None:
    write("splits/trainlist01.txt", f"\n{bad}\n{APPLY} 1\n")
    indexed = index(kind="ucf101", videos=make_tree(APPLY, PITCH_2), splits=splits)
    assert indexed.table.num_rows == 2
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["line"]) == ("malformed_row", 2)
    assert BAD[bad] in issue["detail"]


def test_a_video_in_both_lists_stays_in_train(make_tree, splits, write, index, column) -> None:
    write("splits/testlist01.txt", f"{PITCH_2}\n{APPLY}\n")
    indexed = index(kind="ucf101", videos=make_tree(APPLY, PITCH, PITCH_2), splits=splits)
    assert list(column(indexed, "split").values()) == ["train", "train", "test"]
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["line"], issue["value"]) == ("duplicate_row", 2, APPLY)
    assert issue["detail"] == "testlist01.txt: trainlist01.txt line 1 has the same video; that one is kept"


@pytest.mark.parametrize("classes", ["", "0 A\n1 B\n", "1 A\n3 B\n", "1\n", "A 1\n"])
def test_a_bad_class_list_is_refused(make_tree, splits, write, index, classes) -> None:
    write("splits/classInd.txt", classes)
    with pytest.raises(UsageError, match=r"classInd\.txt"):
        index(kind="ucf101", videos=make_tree(APPLY), splits=splits)


@pytest.mark.parametrize("name", ["classInd.txt", "trainlist01.txt", "testlist01.txt"])
def test_a_missing_list_is_refused(tmp_path, splits, index, name) -> None:
    (splits / name).unlink()
    with pytest.raises(UsageError, match=f"{name}: can't read this file"):
        index(kind="ucf101", videos=tmp_path / "found missing before this", splits=splits)
