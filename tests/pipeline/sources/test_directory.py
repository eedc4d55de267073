def test_label_is_the_first_folder(make_tree, index, column) -> None:
    root = make_tree("run/a.mp4", "run/deep/b.mp4", "long jump/a.mp4", "c.mp4", "empty/notes.txt")
    indexed = index(kind="directory", videos=root)
    assert indexed.labels == ["long jump", "run"]
    assert column(indexed, "label_ids") == {
        "c~mp4": [],
        "long%20jump+a~mp4": [0],
        "run+a~mp4": [1],
        "run+deep+b~mp4": [1],
    }
    assert column(indexed, "labels")["long%20jump+a~mp4"] == ["long jump"]
    assert indexed.issues.num_rows == 0
    assert indexed.num_ignored == 1
    assert set(column(indexed, "split").values()) == {None}


def test_without_labels(make_tree, index, column) -> None:
    indexed = index(kind="directory", videos=make_tree("run/a.mp4", "b.mp4"), labels="none")
    assert indexed.labels == []
    assert column(indexed, "label_ids") == {"b~mp4": [], "run+a~mp4": []}


def test_equal_stems_do_not_collide(make_tree, index) -> None:
    paths = ["a/x.mp4", "a/x.avi", "b/x.mp4", "a+x.mp4", "a/x~.mp4", "x.mp4", "a/x.MP4"]
    indexed = index(kind="directory", videos=make_tree(*paths))
    ids = indexed.table["video_id"].to_pylist()
    assert len(set(ids)) == len(paths)
    assert ids == sorted(ids)


def test_empty_files_stay(make_tree, index, column) -> None:
    root = make_tree("a.mp4")
    (root / "a.mp4").write_bytes(b"")
    assert column(index(kind="directory", videos=root), "bytes") == {"a~mp4": 0}
