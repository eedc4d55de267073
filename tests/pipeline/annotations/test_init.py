"""All kinds of annotations, as a config names them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from pipeline.annotations import annotations_sha256, files_of, open_annotations
from pipeline.annotations.ava import write_csv
from schemas.annotation import BoxTable, SegmentTable, TubeSet
from schemas.annotation_files import Annotations
from schemas.errors import UsageError
from schemas.video_row import Segment, VideoRow


def section(**settings: Any) -> Annotations:
    return TypeAdapter(Annotations).validate_python(settings)


@pytest.fixture
def sections(write, tmp_path) -> dict[str, Annotations]:
    entry = {"subset": "training", "annotations": [{"segment": span, "label": "run"} for span in ([1, 2], [2, 1])]}
    write("val/Diving_val.txt", "video_validation_0000001 1 2\n")
    write("test/Diving_test.txt", "video_test_0000001 1 2\nvideo_test_0000001 3 3\n")
    write("test/Ambiguous_test.txt", "video_test_0000001 5 6\n")
    write("charades.csv", "id,actions,length\nv,c001 1 2;c000 2 1,9\n")
    write("classes.txt", "c000 Sit\nc001 Eat\n")
    write("ava.csv", "v,902,0,0,1,2,3,0\nv,903,0,0,1,1,3,0\n")
    write("list.pbtxt", 'item { name: "dance" id: 3 }')
    write("exclude.csv", "v,903\n")
    tube = {"label": "run", "start_frame": 0, "end_frame": 2, "boxes_xywh": [[0, 0, 2, 2], [0, 0, 0, 0]]}
    write("tubes/v.json", json.dumps({"video": "v.mp4", "num_frames": 9, "tubes": [tube]}))
    bbox = '<attribute name="Location"><bbox framespan="1:3" x="0" y="0" width="2" height="2"/></attribute>'
    person = f'<object name="PERSON" framespan="1:3">{bbox}</object>'
    write("xgtf/Diving/v_Diving_g01_c01.xgtf", f"<viper><data><sourcefile>{person}</sourcefile></data></viper>")
    root = str(tmp_path)
    ava = {"csv": f"{root}/ava.csv", "labels": f"{root}/list.pbtxt", "exclude": [f"{root}/exclude.csv"]}
    charades = {"path": f"{root}/charades.csv", "classes": f"{root}/classes.txt"}
    return {
        "activitynet": section(kind="activitynet", json=write("a.json", json.dumps({"database": {"v": entry}}))),
        "thumos14": section(kind="thumos14", path=[f"{root}/val", f"{root}/test"]),
        "multithumos": section(kind="dense_labels", dataset="multithumos", path=f"{root}/val"),
        "charades": section(kind="dense_labels", dataset="charades", **charades),
        "ava": section(kind="ava", **ava),
        "tubes": section(kind="tubes", path=f"{root}/tubes"),
        "ucf101_24": section(kind="tubes", path=f"{root}/xgtf", format="ucf101_24"),
    }


OPENED: dict[str, tuple[type, int, dict[str, int]]] = {
    "activitynet": (SegmentTable, 1, {"inverted_segment": 1}),
    "thumos14": (SegmentTable, 3, {"empty_segment": 1}),
    "multithumos": (SegmentTable, 1, {}),
    "charades": (SegmentTable, 1, {"inverted_segment": 1}),
    "ava": (BoxTable, 1, {"excluded_frame": 1, "box_clipped": 1}),
    "tubes": (TubeSet, 1, {"bad_tube": 1}),
    "ucf101_24": (TubeSet, 1, {}),
}


@pytest.mark.parametrize("name", OPENED)
def test_each_kind_is_opened_and_tidied(sections, name) -> None:
    kind, num, problems = OPENED[name]
    opened = open_annotations(sections[name])
    assert isinstance(opened.truth, kind)
    assert len(opened.truth) == num
    assert opened.report.counts == problems


def test_labels_and_what_comes_with_them(sections) -> None:
    thumos = open_annotations(sections["thumos14"]).truth
    assert (thumos.labels, len(thumos.ambiguous())) == (("Diving",), 1)
    assert open_annotations(sections["charades"]).truth.labels == ("Sit", "Eat")
    ava = open_annotations(sections["ava"])
    assert (ava.frames, ava.excluded, ava.actions.ids) == ({("v", 902)}, {("v", 903)}, (3,))


def test_videos_that_were_cut_have_their_own_clock(sections) -> None:
    opened = open_annotations(sections["ava"].model_copy(update={"start_s": 900.0}))
    assert opened.truth.second.tolist() == [2]
    assert (opened.frames, opened.excluded) == ({("v", 2)}, {("v", 3)})
    assert write_csv(opened.truth, opened.actions, start_s=900.0).startswith(b"v,0902,")


def test_the_manifests_own_segments() -> None:
    spans = (Segment(1, 2, 1), Segment(3, 4, 0))
    rows = [
        VideoRow("a~mp4", "/d/a.mp4", "train", (), (), None, None, spans),
        VideoRow("b", "b", None, (), (), None, 9),
    ]
    settings = section(kind="manifest")
    table = open_annotations(settings, rows=rows, labels=["jump", "run"]).truth
    assert (table.videos, table.labels, table.subset) == (("a", "b"), ("jump", "run"), ("train", None))
    assert (table.start_s.tolist(), table.label.tolist()) == ([1, 3], [1, 0])
    assert files_of(settings) == []
    assert annotations_sha256(settings) == annotations_sha256(settings)


@pytest.mark.parametrize("name", OPENED)
def test_the_hash_changes_with_each_file(sections, name) -> None:
    settings = sections[name]
    before = annotations_sha256(settings)
    seen = {before}
    for file in files_of(settings):
        text = Path(file).read_text()
        Path(file).write_text(text + "\n")
        seen.add(annotations_sha256(settings))
        Path(file).write_text(text)
    assert len(seen) == 1 + len(files_of(settings)) >= 2
    assert annotations_sha256(settings) == before


def test_the_hash_is_that_of_a_copy_elsewhere(sections, tmp_path) -> None:
    copy = tmp_path / "copy"
    (tmp_path / "tubes").rename(copy)
    moved = section(kind="tubes", path=str(copy))
    copy.rename(tmp_path / "tubes")
    before = annotations_sha256(sections["tubes"])
    (tmp_path / "tubes").rename(copy)
    assert annotations_sha256(moved) == before


@pytest.mark.parametrize("name", OPENED)
def test_a_missing_file_is_named(sections, name, tmp_path) -> None:
    target = tmp_path / Path(files_of(sections[name])[0]).relative_to(tmp_path).parts[0]
    target.rename(target.with_name("gone"))
    for use in (open_annotations, annotations_sha256):
        with pytest.raises(UsageError, match=f"{target.name}: can't "):
            use(sections[name])
