import json
from pathlib import Path

import pytest

from schemas.errors import UsageError

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


def entry(subset: str, *annotations: tuple[object, str]) -> dict[str, object]:
    return {"subset": subset, "annotations": [{"segment": segment, "label": label} for segment, label in annotations]}


@pytest.fixture
def database(write):
    def make(**videos: object) -> Path:
        return write("a.json", json.dumps({"version": "1.3", "database": videos}))

    return make


def test_segments_labels_and_splits(make_tree, database, index, column, issues_of) -> None:
    root = make_tree("v_a.mp4", "deep/b.mkv", "c.mp4", "v_c.webm", "other.mp4")
    path = database(
        a=entry("training", ([5, 9.5], "run"), ([1.5, 3], "jump"), ([20, 30], "run")),
        b=entry("Validation", ([0, 1], "swim")),
        c=entry("testing"),
        gone=entry("training", ([0, 1], "arc")),
    )
    indexed = index(kind="activitynet", json=path, videos=root)
    assert indexed.labels == ["arc", "jump", "run", "swim"]
    assert column(indexed, "split") == {"deep+b~mkv": "val", "v_a~mp4": "train", "v_c~webm": "test"}
    assert column(indexed, "label_ids") == {"deep+b~mkv": [3], "v_a~mp4": [1, 2], "v_c~webm": []}
    assert column(indexed, "segment_start_s")["v_a~mp4"] == [1.5, 5.0, 20.0]
    assert column(indexed, "segment_end_s")["v_a~mp4"] == [3.0, 9.5, 30.0]
    assert column(indexed, "segment_label_ids") == {"deep+b~mkv": [3], "v_a~mp4": [1, 2, 2], "v_c~webm": []}
    assert issues_of(indexed) == [
        ("file_without_row", None, "c.mp4"),
        ("file_without_row", None, "other.mp4"),
        ("row_without_file", None, "gone"),
    ]


BAD_SEGMENTS = {
    "[2, 2]": "is empty",
    "[3, 2]": "is inverted",
    "[-1, 2]": "starts before the video",
    "[1]": "is not a pair of seconds",
    '["a", 2]': "is not a pair of seconds",
    "null": "is not a pair of seconds",
    "[NaN, 2]": "is not a pair of seconds",
    "[1, 1e999]": "is not a pair of seconds",
    f"[1, 1{'0' * 400}]": "is not a pair of seconds",
}


@pytest.mark.parametrize("segment", BAD_SEGMENTS)
def test_a_bad_segment_is_dropped_and_its_label_kept(make_tree, write, index, column, segment) -> None:
    annotations = f'[{{"segment": {segment}, "label": "run"}}, {{"segment": [1, 2], "label": "jump"}}]'
    text = f'{{"database": {{"a": {{"subset": "training", "annotations": {annotations}}}}}}}'
    indexed = index(kind="activitynet", json=write("a.json", text), videos=make_tree("a.mp4"))
    assert column(indexed, "segment_label_ids") == {"a~mp4": [0]}
    assert column(indexed, "labels") == {"a~mp4": ["jump", "run"]}
    (issue,) = indexed.issues.to_pylist()
    assert (issue["kind"], issue["value"]) == ("bad_segment", "a")
    assert BAD_SEGMENTS[segment] in issue["detail"]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"annotations": []},
        {"subset": "holdout", "annotations": []},
        {"subset": "training", "annotations": {"label": "run"}},
        {"subset": "training", "annotations": [7]},
        {"subset": "training", "annotations": [{"segment": [1, 2]}]},
        {"subset": "training", "annotations": [{"segment": [1, 2], "label": "\ud800"}]},
    ],
)
def test_a_malformed_entry_costs_itself_only(make_tree, database, index, issues_of, bad) -> None:
    path = database(a=bad, b=entry("training"))
    indexed = index(kind="activitynet", json=path, videos=make_tree("b.mp4"))
    assert indexed.table["video_id"].to_pylist() == ["b~mp4"]
    assert issues_of(indexed) == [("malformed_row", None, "a")]


def test_duplicates(make_tree, write, index, column, issues_of) -> None:
    """The same key twice in the json, and two entries that mean one file."""
    first, second, third = (json.dumps(entry(subset)) for subset in ("training", "testing", "validation"))
    text = f'{{"database": {{"a": {first}, "a": {second}, "v_a": {third}}}}}'
    indexed = index(kind="activitynet", json=write("a.json", text), videos=make_tree("v_a.mp4"))
    assert column(indexed, "split") == {"v_a~mp4": "train"}
    assert issues_of(indexed) == [("duplicate_row", None, "a"), ("duplicate_row", None, "v_a")]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"database": []}', '{"database": ', "\udcff", "[" * 100_000])
def test_other_files_are_refused(make_tree, write, index, text) -> None:
    with pytest.raises(UsageError, match=r"a\.json: not (valid JSON|an ActivityNet json)"):
        index(kind="activitynet", json=write("a.json", text), videos=make_tree("a.mp4"))


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data, the published ActivityNet annotation")
def test_the_published_annotation(index, column) -> None:
    path = DATA / "activitynet" / "groundtruth_v1-3_rebuilt.json"
    indexed = index(kind="activitynet", json=path, videos=DATA / "videos" / "activitynet")
    assert len(indexed.labels) == 200
    assert column(indexed, "labels") == {"v_GGSY1Qvo990~mp4": ["Clean and jerk"]}
    assert column(indexed, "segment_start_s")["v_GGSY1Qvo990~mp4"] == [pytest.approx(5.8236, abs=1e-4)]
    kinds = indexed.issues["kind"].to_pylist()
    assert (kinds.count("row_without_file"), kinds.count("bad_segment")) == (19227, 12)
