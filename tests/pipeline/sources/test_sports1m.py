from pathlib import Path

import pytest

from schemas.errors import UsageError

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def test_rows_and_labels(make_tree, write, index, column, issues_of) -> None:
    root = make_tree("-A_b.mp4", "deep/cde.webm", "f.mp4", "other.mp4")
    lines = "http://www.youtube.com/watch?v=-A_b 2,0\nhttps://youtu.be/cde 1\n"
    lines += "https://www.youtube.com/watch?t=5&v=f&x=1 1, 1\n\nhttps://www.youtube.com/watch?v=gone 0\n"
    indexed = index(
        kind="sports1m",
        list=write("train.txt", lines),
        videos=root,
        labels=write("labels.txt", "running\nboxing\njudo\n"),
        split="train",
    )
    assert indexed.labels == ["running", "boxing", "judo"]
    assert column(indexed, "label_ids") == {"-A_b~mp4": [2, 0], "deep+cde~webm": [1], "f~mp4": [1]}
    assert column(indexed, "labels")["-A_b~mp4"] == ["judo", "running"]
    assert column(indexed, "youtube_id")["deep+cde~webm"] == "cde"
    assert set(column(indexed, "split").values()) == {"train"}
    assert issues_of(indexed) == [("file_without_row", None, "other.mp4"), ("row_without_file", 5, "gone")]


def test_without_a_label_file(make_tree, write, index, column) -> None:
    listed = write("l.txt", "https://youtu.be/a 3\nhttps://youtu.be/gone 5\n")
    indexed = index(kind="sports1m", list=listed, videos=make_tree("a.mp4"))
    assert indexed.labels == ["0", "1", "2", "3", "4", "5"]
    assert column(indexed, "labels") == {"a~mp4": ["3"]}
    assert column(indexed, "split") == {"a~mp4": None}


BAD = {
    "https://youtu.be/a": "no labels after the address",
    "ftp://host/file 1": "no YouTube address",
    "https://youtu.be/a 9": "label 9 is out of range: there are 2 labels",
    "https://youtu.be/a 1,x": "label 'x' is not a number",
    "https://youtu.be/a 1,": "label '' is not a number",
    "https://youtu.be/a 1 2": "label '1 2' is not a number",
    "https://youtu.be/a \udcff": "not UTF-8",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_malformed_row_costs_itself_only(make_tree, write, index, bad) -> None:
    listed, labels = write("l.txt", f"{bad}\nhttps://youtu.be/a 1\n"), write("labels.txt", "x\ny\n")
    indexed = index(kind="sports1m", list=listed, videos=make_tree("a.mp4"), labels=labels)
    assert indexed.table.num_rows == 1
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["line"]) == ("malformed_row", 1)
    assert BAD[bad] in issue["detail"]


def test_duplicates(make_tree, write, index, issues_of) -> None:
    lines = "https://youtu.be/a 0\nhttps://www.youtube.com/watch?v=a 0\nhttps://youtu.be/b 0\nhttps://youtu.be/b 0\n"
    indexed = index(kind="sports1m", list=write("l.txt", lines), videos=make_tree("a.mp4"))
    assert issues_of(indexed) == [
        ("duplicate_row", 2, "a"),
        ("duplicate_row", 4, "b"),
        ("row_without_file", 3, "b"),
    ]


def test_missing_lists(make_tree, write, tmp_path, index) -> None:
    root, listed = make_tree("a.mp4"), write("l.txt", "")
    with pytest.raises(UsageError, match=r"no\.txt: can't read"):
        index(kind="sports1m", list=tmp_path / "no.txt", videos=root)
    with pytest.raises(UsageError, match=r"no\.txt: can't read"):
        index(kind="sports1m", list=listed, videos=root, labels=tmp_path / "no.txt")


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data, the published Sports-1M labels")
def test_the_published_labels(make_tree, write, index, column) -> None:
    listed = write("l.txt", "https://www.youtube.com/watch?v=a 0,486\n")
    labels = DATA / "c3d" / "sports1m_labels.txt"
    indexed = index(kind="sports1m", list=listed, videos=make_tree("a.mp4"), labels=labels)
    assert len(indexed.labels) == 487
    names = labels.read_text().splitlines()
    assert column(indexed, "labels") == {"a~mp4": [names[0], names[486]]}
