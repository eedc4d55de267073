import pytest

from schemas.errors import UsageError

ODD = "#20_Rhythm (dance)_clap_u_nm_np1_fr_goo_0.avi"


@pytest.fixture
def splits(write):
    write("splits/clap_test_split1.txt", f"{ODD} 1 \nb&c!;[1].avi 2 \nd.avi 0 \n")
    write("splits/clap_test_split2.txt", f"{ODD} 2 \nd.avi 1 \n")
    write("splits/._clap_test_split1.txt", "left by a Mac\n")
    write("splits/brush_hair_test_split2.txt", "x.avi 2\n")
    return write("splits/brush_hair_test_split1.txt", "x.avi 1\ngone.avi 0\n").parent


def test_folds(make_tree, splits, index, column, issues_of) -> None:
    root = make_tree(f"clap/{ODD}", "clap/b&c!;[1].avi", "clap/d.avi", "brush_hair/x.avi", "clap/more.avi")
    one = index(kind="hmdb51", videos=root, splits=splits)
    assert one.labels == ["brush_hair", "clap"]
    assert column(one, "split") == {
        "brush_hair+x~avi": "train",
        "clap+%2320_Rhythm%20%28dance%29_clap_u_nm_np1_fr_goo_0~avi": "train",
        "clap+b%26c%21%3B%5B1%5D~avi": "test",
    }
    assert list(column(one, "label_ids").values()) == [[0], [1], [1]]
    assert one.num_unused == 2
    assert issues_of(one) == [("file_without_row", None, "clap/more.avi")]
    two = index(kind="hmdb51", videos=root, splits=splits, fold=2)
    assert list(column(two, "split").values()) == ["test", "test", "train"]


def test_a_flat_folder(make_tree, splits, index, column) -> None:
    indexed = index(kind="hmdb51", videos=make_tree(ODD, "x.avi"), splits=splits)
    assert list(column(indexed, "labels").values()) == [["clap"], ["brush_hair"]]


@pytest.mark.parametrize("bad", ["y.avi", "y.avi 3", "1", "y.avi x 1 2 3", "y\udcff.avi 1"])
def test_a_malformed_row_costs_itself_only(make_tree, splits, write, index, bad) -> None:
    write("splits/brush_hair_test_split1.txt", f"{bad}\nx.avi 1\n")
    root = make_tree(f"clap/{ODD}", "clap/b&c!;[1].avi", "clap/d.avi", "brush_hair/x.avi")
    indexed = index(kind="hmdb51", videos=root, splits=splits)
    assert indexed.table.num_rows == 3
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["line"]) == ("malformed_row", 1)
    assert issue["detail"].startswith("brush_hair_test_split1.txt: ")


def test_missing_files_and_duplicates(make_tree, splits, write, index) -> None:
    write("splits/brush_hair_test_split1.txt", "x.avi 1\nx.avi 2\ny.avi 1\n")
    root = make_tree(f"clap/{ODD}", "clap/b&c!;[1].avi", "clap/d.avi", "brush_hair/x.avi")
    indexed = index(kind="hmdb51", videos=root, splits=splits)
    listed = "brush_hair_test_split1.txt"
    assert [tuple(row.values()) for row in indexed.issues.to_pylist()] == [
        ("duplicate_row", 2, "brush_hair/x.avi", f"{listed}: {listed} line 1 has the same video; that one is kept"),
        ("row_without_file", 3, "brush_hair/y.avi", f"{listed}: no such video in {root}"),
    ]


def test_a_folder_without_the_folds_lists_is_refused(make_tree, splits, tmp_path, index) -> None:
    with pytest.raises(UsageError, match=r"no <class>_test_split3\.txt here"):
        index(kind="hmdb51", videos=make_tree("x.avi"), splits=splits, fold=3)
    with pytest.raises(UsageError, match="can't list this folder"):
        index(kind="hmdb51", videos=make_tree("x.avi"), splits=tmp_path / "none")
