"""Annotated videos: found in the manifest, put into splits, and counted where their features are missing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.annotated import AnnotatedVideos, Missing, find_missing, join_annotations, require_coverage
from schemas.annotation_files import ActivityNetAnnotations, ManifestAnnotations, TubesAnnotations
from schemas.errors import ReelmillError, UsageError
from schemas.ledger import LedgerRow
from schemas.manifest import Segment, VideoRow

ONE = [[1.0, 2.0, "jump"]]


def row(name: str, split: str | None = None, segments: Sequence[Segment] = ()) -> VideoRow:
    return VideoRow(name, f"/videos/{name}.mp4", split, (), (), None, None, tuple(segments))


def entry(subset: str, segments: list[list[Any]]) -> dict[str, Any]:
    return {"subset": subset, "annotations": [{"segment": [s, e], "label": label} for s, e, label in segments]}


@pytest.fixture
def join(tmp_path: Path) -> Any:
    def run(database: dict[str, Any], rows: Sequence[VideoRow]) -> AnnotatedVideos:
        path = tmp_path / "truth.json"
        path.write_text(json.dumps({"database": database}))
        settings = ActivityNetAnnotations.model_validate({"kind": "activitynet", "json": str(path)})
        return join_annotations(settings, rows, labels=(), where="heads/find")

    return run


def test_rows_are_annotated_left_out_or_absent(join: Any) -> None:
    database = {
        "b": entry("training", ONE),
        "a": entry("training", []),  # nothing happens in it
        "c": entry("validation", ONE),
        "d": entry("validation", ONE),
        "e": entry("testing", []),
        "f": entry("testing", []),
    }
    found = join(database, [row("a"), row("b"), row("c"), row("e"), row("x")])
    assert [(one.video_id, one.split) for one in found.rows] == [("a", "train"), ("b", "train"), ("c", "val")]
    assert [found.truth.videos[video] for video in found.video] == ["a", "b", "c"]
    assert found.absent == (
        Missing("d", "val", "not in the manifest"),
    )  # f's annotations are withheld, so nothing of it is missing
    assert {name: why.reason for name, why in found.left_out.items()} == {"x": "no_annotation", "e": "withheld"}


def test_the_manifest_decides_on_splits(join: Any) -> None:
    found = join({"a": entry("testing", ONE), "b": entry("training", ONE)}, [row("a", "train"), row("b")])
    assert [one.split for one in found.rows] == ["train", "train"]


def test_where_nothing_is_for_training_val_is(join: Any) -> None:
    """THUMOS14 and MultiTHUMOS train on what they call validation."""
    database = {"a": entry("validation", ONE), "b": entry("test", ONE)}
    assert [one.split for one in join(database, [row("a"), row("b")]).rows] == ["train", "test"]
    only_val = database | {"b": entry("test", [])}  # withheld: then there is nothing to hold a trained head against
    assert [one.split for one in join(only_val, [row("a"), row("b")]).rows] == ["val"]
    database["c"] = entry("training", ONE)
    assert [one.split for one in join(database, [row("a"), row("b")]).rows] == ["val", "test"]


def test_segments_of_the_manifest() -> None:
    rows = [row("a", "train", [Segment(1, 2, 1)]), row("b", "train"), row("c", "test")]
    found = join_annotations(ManifestAnnotations(kind="manifest"), rows, labels=("run", "jump"), where="heads/find")
    assert [one.video_id for one in found.rows] == ["a", "b"]
    assert found.truth.labels[found.truth.label[0]] == "jump"
    assert found.left_out["c"].message == (
        "has no segment, like all videos of its split (test): their annotations are withheld"
    )


def test_missing_features_are_named(join: Any) -> None:
    rows = [row("a"), row("b"), row("c")]
    annotated = join({name: entry("training", ONE) for name in "abcd"}, rows)
    lines = [
        LedgerRow("a", "", "ok"),
        LedgerRow("b", "", "failed", "truncated", "is truncated"),
        LedgerRow("c", "", "ok"),
    ]
    wanted = {one.video_id: one.split for one in annotated.rows}
    missing = find_missing(wanted, {"features/c3d": lines}, found=["a"]) + annotated.absent
    assert missing == (
        Missing("b", "train", "features/c3d: is truncated"),
        Missing("c", "train", "gave no clip"),
        Missing("d", "train", "not in the manifest"),
    )
    for enough in (3, "75%"):
        require_coverage(missing, 4, allowance=enough, where="heads/find")
    with pytest.raises(ReelmillError) as error:
        require_coverage(missing, 4, allowance="74%", where="heads/find")
    assert str(error.value) == (
        "heads/find: 3 of 4 annotated videos have no features: b (features/c3d: is truncated), c (gave no clip), d "
        "(not in the manifest); make their features, or allow for that many with `missing: 3`"
    )


def test_many_missing_are_counted() -> None:
    missing = [Missing(f"v{n}", None, "gave no clip") for n in range(9)]
    with pytest.raises(ReelmillError, match=r"v4 \(gave no clip\) and 4 more; make"):
        require_coverage(missing, 9, allowance=0, where="heads/find")


def test_errors_are_one_sentence(join: Any, tmp_path: Path) -> None:
    with pytest.raises(ReelmillError) as error:
        join({"a": entry("training", ONE)}, [row("b")])
    assert str(error.value) == (
        "heads/find: none of the 1 annotated videos is in the manifest ('a' is one, and the manifest has 'b')"
    )
    with pytest.raises(ReelmillError, match="heads/find: none of the 2 videos of the manifest has a segment; name"):
        join_annotations(ManifestAnnotations(kind="manifest"), [row("a"), row("b")], labels=(), where="heads/find")
    with pytest.raises(UsageError, match=r"heads/find: the annotations' videos 'a' and 'v_a' are both the manifest's"):
        join({"a": entry("training", ONE), "v_a": entry("training", ONE)}, [row("a")])
    with pytest.raises(UsageError, match=r"^heads/find: .*missing\.json"):
        missing = ActivityNetAnnotations.model_validate({"kind": "activitynet", "json": str(tmp_path / "missing.json")})
        join_annotations(missing, [row("a")], labels=(), where="heads/find")
    tube = {"label": "Diving", "start_frame": 0, "end_frame": 1, "boxes_xywh": [[1, 2, 3, 4]]}
    (tmp_path / "tubes.json").write_text(json.dumps({"video": "a.mp4", "num_frames": 9, "tubes": [tube]}))
    with pytest.raises(UsageError, match="heads/find: annotations of kind tubes are boxes, and this head takes segme"):
        tubes = TubesAnnotations(kind="tubes", path=str(tmp_path / "tubes.json"))
        join_annotations(tubes, [row("a")], labels=(), where="heads/find")
