import pytest

from schemas.errors import UsageError

BOX = "0.1,0.2,0.3,0.4"


def test_videos_and_what_is_done_in_them(make_tree, write, index, column, issues_of) -> None:
    root = make_tree("-5KQ66BBWC4.mkv", "x.mp4", "y.mp4", "other.mp4")
    train = write("ava_train_v2.2.csv", f"-5KQ66BBWC4,0902,{BOX},5,1\n-5KQ66BBWC4,0903,{BOX},3,1\nx,902\n")
    val = write("ava_val_v2.2.csv", f"x,0902,{BOX},3,1\ny,0902,{BOX},3,1\nz,0902,{BOX},9,1\nbad\n")
    actions = write("list.pbtxt", 'item { name: "dance" id: 3 } item { name: "fall" id: 5 }')
    indexed = index(kind="ava", csv=[str(train), str(val)], videos=root, labels=actions)
    assert indexed.labels == ["dance", "fall"]
    assert column(indexed, "label_ids") == {"-5KQ66BBWC4~mkv": [0, 1], "x~mp4": [0], "y~mp4": [0]}
    assert column(indexed, "split") == {"-5KQ66BBWC4~mkv": "train", "x~mp4": "train", "y~mp4": "val"}
    assert issues_of(indexed) == [
        ("bad_segment", 3, str(val)),
        ("duplicate_row", None, "x"),
        ("file_without_row", None, "other.mp4"),
        ("malformed_row", 4, str(val)),
        ("row_without_file", None, "z"),
    ]


def test_without_a_list_the_ids_are_the_labels(make_tree, write, index, column) -> None:
    indexed = index(kind="ava", csv=write("boxes.csv", f"x,1,{BOX},12\nx,1,{BOX},3\n"), videos=make_tree("x.mp4"))
    assert (indexed.labels, column(indexed, "label_ids")) == (["3", "12"], {"x~mp4": [0, 1]})
    assert column(indexed, "split") == {"x~mp4": None}


def test_another_file_is_refused(make_tree, write, index) -> None:
    with pytest.raises(UsageError, match="not an action list"):
        index(kind="ava", csv=write("a.csv", ""), videos=make_tree("a.mp4"), labels=write("l.txt", "dance\n"))
