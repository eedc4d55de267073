from pipeline.sources.issues import Issues
from pipeline.sources.listing import list_videos
from pipeline.sources.segments import LabelledVideo, segment_rows


def test_rows_are_found_by_either_name_and_labels_numbered_over_all(make_tree) -> None:
    root = make_tree("v_a.mp4", "a.mp4", "b.mkv")
    issues = Issues()
    videos = [
        LabelledVideo("a", "train", ["run"], [(1, 2, "run")]),
        LabelledVideo("b", None, ["jump", "run"], []),
        LabelledVideo("gone", "test", ["arc"], []),
    ]
    rows = segment_rows(videos, str(root), lambda folder: list_videos(folder, issues, None), issues)
    table = rows.table()
    assert rows.labels == ["arc", "jump", "run"]
    assert table["video_id"].to_pylist() == ["b~mkv", "v_a~mp4"]
    assert table["label_ids"].to_pylist() == [[1, 2], [2]]
    assert table["segment_label_ids"].to_pylist() == [[], [2]]
    assert issues.table()["value"].to_pylist() == ["gone"]
