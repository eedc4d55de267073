import pytest

from schemas.errors import UsageError


@pytest.fixture
def folders(write) -> list[str]:
    write("val/Diving_val.txt", "video_validation_0000001 3 4\nvideo_validation_0000001 1 2\nsome words\n")
    write("val/LongJump_val.txt", "video_validation_0000001 5 4\n")
    write("test/Diving_test.txt", "video_test_0000004 1 2\nvideo_test_0000009 1 2\n")
    test = write("test/Ambiguous_test.txt", "video_test_0000004 7 8\n").parent
    return [str(test.parent / "val"), str(test)]


def test_folders_of_text_files(make_tree, folders, index, column, issues_of) -> None:
    root = make_tree("video_validation_0000001.mp4", "deep/video_test_0000004.mp4", "other.mp4")
    indexed = index(kind="thumos14", path=folders, videos=root)
    assert indexed.labels == ["Diving", "LongJump"]
    validation, test = "video_validation_0000001~mp4", "deep+video_test_0000004~mp4"
    assert column(indexed, "split") == {validation: "train", test: "test"}
    assert column(indexed, "label_ids") == {validation: [0, 1], test: [0]}
    assert column(indexed, "segment_start_s") == {validation: [1, 3], test: [1]}
    assert column(indexed, "segment_end_s") == {validation: [2, 4], test: [2]}
    assert column(indexed, "segment_label_ids") == {validation: [0, 0], test: [0]}
    assert issues_of(indexed) == [
        ("bad_segment", None, "video_validation_0000001"),
        ("file_without_row", None, "other.mp4"),
        ("malformed_row", 3, f"{folders[0]}/Diving_val.txt"),
        ("row_without_file", None, "video_test_0000009"),
    ]


def test_another_file_is_refused(make_tree, write, index) -> None:
    with pytest.raises(UsageError, match="it has no column video-name"):
        index(kind="thumos14", path=write("a.csv", "a,b\n"), videos=make_tree("a.mp4"))
