from pathlib import Path

import pytest

from schemas.errors import UsageError

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def test_trimmed_files_in_both_places(make_tree, write, index, column, issues_of) -> None:
    root = make_tree(
        "abc_000417_000427.mp4",
        "using segway/-b__000001_000011.mkv",
        "air_drumming/c_000000_000010.webm",
        "train/juggling/d_000002_000012.AVI",
    )
    csv = HEADER + 'abseiling,abc,417,427,train,0\n"using segway",-b_,1,11,validate,1\n'
    csv += "air drumming,c,0.0,10.0,test,0\njuggling,d,2,12,val,0\n"
    indexed = index(kind="kinetics", csv=write("k.csv", csv), videos=root)
    assert issues_of(indexed) == []
    assert indexed.labels == ["abseiling", "air drumming", "juggling", "using segway"]
    assert column(indexed, "label_ids") == {
        "abc_000417_000427~mp4": [0],
        "air_drumming+c_000000_000010~webm": [1],
        "train+juggling+d_000002_000012~AVI": [2],
        "using%20segway+-b__000001_000011~mkv": [3],
    }
    assert list(column(indexed, "split").values()) == ["train", "test", "val", "val"]
    assert list(column(indexed, "youtube_id").values()) == ["abc", "c", "d", "-b_"]
    assert set(column(indexed, "start_s").values()) == {None}


def test_full_videos_are_cut_at_the_rows_times(make_tree, write, index, column, issues_of) -> None:
    csv = HEADER + "a,abc,417,427,train,0\na,abc,3.5,9.25,train,0\nb,gone,1,2,train,0\n"
    indexed = index(kind="kinetics", csv=write("k.csv", csv), videos=make_tree("abc.mp4"), layout="full")
    assert column(indexed, "start_s") == {"abc~mp4@3500-9250": 3.5, "abc~mp4@417000-427000": 417.0}
    assert column(indexed, "end_s") == {"abc~mp4@3500-9250": 9.25, "abc~mp4@417000-427000": 427.0}
    assert issues_of(indexed) == [("row_without_file", 4, "gone")]


LAYOUTS = {
    "trimmed": ["abc_000001_000011~mp4", "def~mp4"],  # a file of the id alone is the cut-out span then
    "full": ["abc~mp4@1000-11000", "def~mp4@2000-12000"],
    "auto": ["abc_000001_000011~mp4", "def~mp4@2000-12000"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(make_tree, write, index, layout) -> None:
    root = make_tree("abc_000001_000011.mp4", "abc.mp4", "def.mp4")
    csv = write("k.csv", HEADER + "a,abc,1,11,train,0\na,def,2,12,train,0\n")
    indexed = index(kind="kinetics", csv=csv, videos=root, layout=layout)
    assert indexed.table["video_id"].to_pylist() == LAYOUTS[layout]


def test_the_file_in_the_labels_folder_is_preferred(make_tree, write, index, issues_of) -> None:
    root = make_tree("a/x_000001_000002.mp4", "long_jump/x_000001_000002.mp4", "x_000001_000002.mp4")
    csv = write("k.csv", HEADER + "long jump,x,1,2,train,0\n")
    indexed = index(kind="kinetics", csv=csv, videos=root)
    assert indexed.table["video_id"].to_pylist() == ["long_jump+x_000001_000002~mp4"]
    assert [value for _, _, value in issues_of(indexed)] == ["a/x_000001_000002.mp4", "x_000001_000002.mp4"]


def test_headers(make_tree, write, index, column) -> None:
    """Without is_cc, in another order, with a byte order mark and quotes, and without labels (the test list)."""
    root = make_tree("x_000001_000002.mp4")
    for text in (
        "label,youtube_id,time_start,time_end,split\na,x,1,2,train\n",
        '\ufeff"youtube_id","time_start","time_end","split","label"\r\nx,1,2,train,a\r\n',
        "youtube_id,time_start,time_end,split\nx,1,2,train\n",
        "youtube_id,time_start,time_end\nx,1,2\n",
    ):
        indexed = index(kind="kinetics", csv=write("k.csv", text), videos=root)
        assert indexed.labels == (["a"] if "label" in text else [])
        assert column(indexed, "split") == {"x_000001_000002~mp4": "train" if "split" in text else None}


@pytest.mark.parametrize("text", ["", "a,x,1,2,train,0\n", "\n", "label,youtube_id,time_start\n", "\udcff\n"])
def test_a_csv_without_the_header_is_refused(make_tree, write, index, text) -> None:
    with pytest.raises(UsageError, match=r"k\.csv: the first line must be Kinetics' header"):
        index(kind="kinetics", csv=write("k.csv", text), videos=make_tree("x.mp4"))


def test_a_missing_csv_is_found_before_the_scan(tmp_path, index) -> None:
    with pytest.raises(UsageError, match=r"no\.csv: can't read this file"):
        index(kind="kinetics", csv=tmp_path / "no.csv", videos=tmp_path / "none either")


BAD = {
    "a,x,1,2,train": "5 fields where the header has 6",
    "a,x,1,2,train,0,7": "7 fields",
    "a,,1,2,train,0": "youtube_id is empty",
    ",x,1,2,train,0": "label is empty",
    "a,x,,2,train,0": "time_start '' is not a number",
    "a,x,1,b,train,0": "time_end 'b' is not a number",
    "a,x,nan,2,train,0": "time_start 'nan' is not a time",
    "a,x,1,inf,train,0": "time_end 'inf' is not a time",
    "a,x,-1,2,train,0": "time_start '-1' is not a time",
    "a,x,2,2,train,0": "time_end 2 is not after time_start 2",
    "a,x,1,2,holdout,0": "split 'holdout' is not one of",
    '"a,x,1,2,train,0': "not valid csv",
    '"a"b,x,1,2,train,0': "not valid csv",
    "\udce9,x,1,2,train,0": "this line is not UTF-8",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_malformed_row_costs_itself_only(make_tree, write, index, bad) -> None:
    root = make_tree("y_000003_000004.mp4", "z_000003_000004.mp4")
    csv = write("k.csv", f"{HEADER}a,y,3,4,train,0\n\n{bad}\na,z,3,4,train,0\n")
    indexed = index(kind="kinetics", csv=csv, videos=root)
    assert indexed.table.num_rows == 2
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["line"]) == ("malformed_row", 4)
    assert BAD[bad] in issue["detail"]


def test_duplicates(make_tree, write, index, column, issues_of) -> None:
    root = make_tree("x_000001_000002.mp4", "x_000005_000006.mp4", "b/x_000001_000002.mp4")
    csv = HEADER + "a,x,1,2,train,0\na,x,5,6,train,0\nb,x,1,2,val,0\na,gone,1,2,train,0\na,gone,1.0,2,train,0\n"
    csv += "a,x,1.25,2,train,0\n"  # other times, but the name of the file has whole seconds
    indexed = index(kind="kinetics", csv=write("k.csv", csv), videos=root)
    assert issues_of(indexed) == [
        ("duplicate_row", 4, "x@1000-2000"),
        ("duplicate_row", 6, "gone@1000-2000"),
        ("duplicate_row", 7, "x@1250-2000"),
        ("file_without_row", None, "b/x_000001_000002.mp4"),
        ("row_without_file", 5, "gone_000001_000002"),
    ]
    assert list(column(indexed, "labels").values()) == [["a"], ["a"]]


def test_label_numbers_do_not_depend_on_which_files_are_there(make_tree, write, index, column) -> None:
    csv = write("k.csv", HEADER + "zoom,z,1,2,train,0\narc,x,1,2,train,0\n")
    indexed = index(kind="kinetics", csv=csv, videos=make_tree("z_000001_000002.mp4"))
    assert indexed.labels == ["arc", "zoom"]
    assert column(indexed, "label_ids") == {"z_000001_000002~mp4": [1]}


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data, the published Kinetics-400 list")
def test_the_published_list(index, issues_of) -> None:
    indexed = index(kind="kinetics", csv=DATA / "kinetics400_val.csv", videos=DATA / "videos" / "kinetics")
    assert indexed.labels == (DATA / "i3d" / "kinetics400_labels.txt").read_text().split("\n")[:400]
    assert indexed.table["youtube_id"].to_pylist() == ["R6llTwEh07w", "SOX5yA1l24A"]
    assert indexed.table["labels"].to_pylist() == [["using segway"]] * 2
    assert {kind for kind, _, _ in issues_of(indexed)} == {"row_without_file"}
    assert indexed.issues.num_rows == 19906 - 2
