import pytest

from schemas.errors import UsageError


def test_integer_labels(make_tree, write, index, column, issues_of) -> None:
    root = make_tree("a/x.mp4", "b.mp4", "c d.mp4", "odd.bin", "more.mp4")
    text = f"a/x.mp4 2\n{root}/b.mp4 0,3\nc d.mp4\t1\nodd.bin  1\ngone.mp4 1\n"
    indexed = index(kind="list", list=write("l.txt", text), videos=root, split="val")
    assert indexed.labels == ["0", "1", "2", "3"]
    assert column(indexed, "label_ids") == {"a+x~mp4": [2], "b~mp4": [0, 3], "c%20d~mp4": [1], "odd~bin": [1]}
    assert column(indexed, "labels")["b~mp4"] == ["0", "3"]
    assert set(column(indexed, "split").values()) == {"val"}
    assert issues_of(indexed) == [("file_without_row", None, "more.mp4"), ("row_without_file", 5, "gone.mp4")]


def test_names_are_numbered_in_sorted_order(make_tree, write, index, column) -> None:
    listed = write("l.txt", "a.mp4 run\nb.mp4 jump,run\nc.mp4\tlong jump\nd.mp4 50\n")
    indexed = index(kind="list", list=listed, videos=make_tree("a.mp4", "b.mp4", "c.mp4", "d.mp4"))
    assert indexed.labels == ["50", "jump", "long jump", "run"]
    assert column(indexed, "label_ids") == {"a~mp4": [3], "b~mp4": [1, 3], "c~mp4": [2], "d~mp4": [0]}


def test_a_label_file(make_tree, write, index, column, issues_of) -> None:
    listed = write("l.txt", "a.mp4 1\nb.mp4 run\nc.mp4 swim\nd.mp4 2\n")
    root, labels = make_tree("a.mp4", "b.mp4", "c.mp4", "d.mp4"), write("labels.txt", "run\njump\n")
    indexed = index(kind="list", list=listed, videos=root, labels=labels)
    assert indexed.labels == ["run", "jump"]
    assert column(indexed, "label_ids") == {"a~mp4": [1], "b~mp4": [0]}
    assert issues_of(indexed)[2:] == [("malformed_row", 3, "c.mp4 swim"), ("malformed_row", 4, "d.mp4 2")]


def test_paths_alone(make_tree, write, index, column, issues_of) -> None:
    root = make_tree("a.mp4", "b c.mp4")
    indexed = index(kind="list", list=write("l.txt", "a.mp4\n\nb c.mp4\n"), videos=root)
    assert column(indexed, "label_ids") == {"a~mp4": [], "b%20c~mp4": []}
    assert indexed.labels == []
    assert issues_of(indexed) == []


def test_paths_are_relative_to_the_list_by_default(make_tree, index, column) -> None:
    root = make_tree("deep/a.mp4")
    make_tree("o.mp4", folder="outside")
    (root / "l.txt").write_text("./deep/a.mp4 0\n../outside/o.mp4 0\n")
    indexed = index(kind="list", list=root / "l.txt")
    outside = str(root.parent / "outside/o.mp4")
    assert column(indexed, "uri") == {"~~+outside+o~mp4": outside, "deep+a~mp4": f"{root}/deep/a.mp4"}


def test_duplicates_and_malformed_rows(make_tree, write, index, issues_of) -> None:
    root = make_tree("a.mp4", "b.mp4")
    text = "a.mp4 0\n./a.mp4 1\nb.mp4 x\nb.mp4 0,,1\nb.mp4 -1\n\udcff.mp4 1\nb.mp4 1000000\nb.mp4 3\n"
    indexed = index(kind="list", list=write("l.txt", text), videos=root)
    assert [(kind, line) for kind, line, _ in issues_of(indexed)] == [
        ("duplicate_row", 2),
        *(("malformed_row", line) for line in (3, 4, 5, 6, 7)),
    ]
    assert indexed.table.num_rows == 2


def test_missing_files_are_refused(make_tree, tmp_path, index) -> None:
    with pytest.raises(UsageError, match=r"no\.txt: can't read this file"):
        index(kind="list", list=tmp_path / "no.txt", videos=make_tree("a.mp4"))
