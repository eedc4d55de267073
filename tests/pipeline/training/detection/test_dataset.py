"""Keyframes and their boxes from AVA csv and from tubes; splits; what is missing, bad or left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.training.detection.dataset import DetectionData, load_detection
from pipeline.training.tasks import settings_of
from schemas.errors import ReelmillError, UsageError

HERE = (0.25, 0.5, 0.5, 1.0)
THERE = (0.75, 0.0, 1.0, 0.5)


def load(world: Any, annotations: dict[str, Any], **settings: Any) -> DetectionData:
    product = world.head(annotations, **settings)
    values = settings_of(product.settings)
    return load_detection(world.source(product), values)  # type: ignore[arg-type]


def three(parts: Any, *, splits: Sequence[str | None] = ("train", "val", "test"), **changes: Any) -> list[Any]:
    """Videos a, b and c, each with both classes."""
    actors = (parts.Actor(0, HERE), parts.Actor(1, THERE))
    return [parts.Video(name, actors, split, **changes) for name, split in zip("abc", splits, strict=True)]


def boxes_at(data: DetectionData, video_id: str, second: float) -> list[tuple[list[float], list[float]]]:
    """The boxes and actions of one keyframe."""
    video = data.maps.video_ids.index(video_id)
    (key,) = np.flatnonzero((data.keys.video == video) & (data.keys.second == second))
    target = data.targets[key]
    return list(zip(target.box.tolist(), target.actions.tolist(), strict=True))


# ---------------------------------------------------------------- AVA


def test_avas_keyframes_are_the_seconds_of_its_csv(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[0].actors += (parts.Actor(1, HERE),)  # does both
    videos[1].actors = (parts.Actor(0, HERE, end_s=2), parts.Actor(1, THERE, end_s=2))
    world.write(videos)
    data = load(world, world.ava())
    assert data.keys.second.tolist() == [0, 1, 2, 3] * 3
    assert data.splits.tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert boxes_at(data, "a", 2) == [([*HERE], [1, 1]), ([*THERE], [0, 1])]
    assert boxes_at(data, "b", 1) == [([*HERE], [1, 0]), ([*THERE], [0, 1])]
    assert boxes_at(data, "b", 2) == []  # looked at: a negative
    assert [name for _, name in data.classes] == ["sit", "wave"]
    assert data.facts == {
        "boxes": 24,
        "boxes_outside_view": 0,
        "keyframes": 12,
        "keyframes_without_box": 2,
        "left_out": {},
        "dropped": {},
    }
    assert data.key_step[:4].tolist() == [-0.5] * 4  # where their windows begin
    assert [(row.status, row.num_items) for row in data.ledger] == [("ok", 4)] * 3


def test_seconds_of_the_csv_are_those_of_a_longer_film(world: Any, parts: Any) -> None:
    world.write(three(parts))
    data = load(world, world.ava(start_s=900))
    assert data.keys.second.tolist() == [0, 1, 2, 3] * 3
    assert len(data.truth) == 24


def test_excluded_frames_are_no_keyframes(world: Any, parts: Any) -> None:
    world.write(three(parts))
    section = world.ava()
    (world.root / "excluded.csv").write_text("a,0002\n")
    data = load(world, section | {"exclude": [str(world.root / "excluded.csv")]})
    assert data.keys.second[data.keys.video == 0].tolist() == [0, 1, 3]


def test_bad_lines_are_dropped_and_counted(world: Any, parts: Any) -> None:
    world.write(three(parts))
    bad = "a,0001,0.1,0.1,0.4,0.4,99\na,0001,1.2,0.1,1.4,0.4,3\na,0001,0.4,0.1,0.4,0.4,3\na,0001,0.9,0.1,1.4,0.4,3\n"
    data = load(world, world.ava(more=bad))
    counts = {kind: one["count"] for kind, one in data.facts["dropped"].items()}
    assert counts == {"unknown_class": 1, "box_outside": 1, "degenerate_box": 1, "box_clipped": 1}
    assert data.facts["boxes"] == 25  # the clipped one


def test_a_keyframe_in_no_window_is_missing(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[0].starts_s = (0.0, 1.0)
    world.write(videos)
    section = world.ava()
    with pytest.raises(
        ReelmillError,
        match=r"heads/who: 2 of 12 annotated keyframes have no maps: a: 2 of 4: in no window: 2 s, 3 s; .*`missing: 2`",
    ):
        load(world, section, missing=1)
    data = load(world, section, missing="17%")
    assert data.coverage("train") == (2, 4)
    assert data.coverage("val") == (4, 4)
    assert [str(one) for one in data.missing] == ["a: 2 of 4: in no window: 2 s, 3 s"]


def test_a_video_without_maps_or_without_row_is_missing(world: Any, parts: Any) -> None:
    videos = [*three(parts), parts.Video("d", (parts.Actor(0, HERE),), "train", status="failed")]
    world.write(videos)
    section = world.ava([*videos, parts.Video("far", (parts.Actor(0, HERE),))])
    with pytest.raises(
        ReelmillError, match=r"8 of 20 .*: d: 4 of 4: features/maps: truncated; far: 4 of 4: not in the"
    ):
        load(world, section)
    data = load(world, section, missing=8)
    assert data.coverage("train") == (4, 12)  # far may be of any split
    assert data.coverage("test") == (4, 8)
    assert [row.status for row in data.ledger] == ["ok", "ok", "ok", "failed"]


def test_a_video_that_is_not_annotated_is_looked_at(world: Any, parts: Any) -> None:
    videos = [*three(parts), parts.Video("x", (parts.Actor(0, HERE),), seconds=2)]
    world.write(videos)
    data = load(world, world.ava(videos[:3]))
    assert data.video_splits == ("train", "val", "test", "none")
    assert data.keys.second[data.splits == "none"].tolist() == [0.5, 1.5]
    assert boxes_at(data, "x", 0.5) == []
    assert data.ledger[3].reason == "not_trained"
    assert data.facts["left_out"] == {"not_trained": 1}
    assert data.facts["keyframes"] == 12


def test_splits_are_held_out_where_the_manifest_has_none(world: Any, parts: Any) -> None:
    actors = (parts.Actor(0, HERE), parts.Actor(1, THERE))
    world.write([parts.Video(f"v{index:02d}", actors) for index in range(24)])
    data = load(world, world.ava())
    assert {split: len(data.keys_of(split)) > 0 for split in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )
    assert len(data.keys_of("train")) > len(data.keys_of("val"))
    of_video = [set(data.splits[data.keys.video == video]) for video in range(24)]
    assert all(len(splits) == 1 for splits in of_video)


def test_a_row_without_split_among_others_is_looked_at(world: Any, parts: Any) -> None:
    videos = [*three(parts), parts.Video("d", (parts.Actor(0, HERE),))]
    world.write(videos)
    data = load(world, world.ava())
    assert data.video_splits == ("train", "val", "test", "none")
    assert boxes_at(data, "d", 0.5) == []
    assert data.ledger[3].reason == "not_trained"
    assert data.ledger[3].message.startswith(
        "has no split, though other videos of the source have one; what the head f"
    )


# ---------------------------------------------------------------- tubes


def test_tubes_have_a_keyframe_in_the_middle_of_each_window(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[0].actors = (parts.Actor(0, (0.0, 0.0, 0.25, 0.5), speed=(0.125, 0.0)), parts.Actor(1, THERE, end_s=2))
    world.write(videos)
    data = load(world, world.tubes())
    assert data.keys.second.tolist() == [0.5, 1.5, 2.5, 3.5] * 3
    assert data.key_step.tolist() == [0.5] * 12
    assert boxes_at(data, "a", 1.5) == [([0.1875, 0, 0.4375, 0.5], [1, 0]), ([*THERE], [0, 1])]
    assert boxes_at(data, "a", 2.5) == [([0.3125, 0, 0.5625, 0.5], [1, 0])]
    assert data.names == ("a.mp4", "b.mp4", "c.mp4")
    assert data.coverage("train") == (1, 1)


def test_tubes_begin_with_the_video_and_not_with_its_clock(world: Any, parts: Any) -> None:
    moving = (parts.Actor(0, (0.0, 0.0, 0.25, 0.5), speed=(0.125, 0.0)), parts.Actor(1, THERE))
    videos = [
        parts.Video(name, moving, split, first_s=10.0)
        for name, split in zip("abc", ("train", "val", "test"), strict=True)
    ]
    world.write(videos)
    data = load(world, world.tubes())
    assert data.first_s.tolist() == [10, 10, 10]
    assert boxes_at(data, "a", 11.5)[0] == ([0.1875, 0, 0.4375, 0.5], [1, 0])


def test_a_rate_that_tubes_do_not_say_is_that_of_their_frames(world: Any, parts: Any) -> None:
    world.write(three(parts))
    data = load(world, world.tubes(fps=None))
    assert data.tubes is not None
    assert [shape.fps for shape in data.tubes.shapes] == [16.0] * 3
    world.clips = {"tail": "drop"}
    world.write(three(parts))
    with pytest.raises(UsageError, match=r"heads/who: a\.mp4: its tubes come without fps, width or height"):
        load(world, world.tubes(fps=None))


def test_of_tubes_a_video_without_maps_is_missing(world: Any, parts: Any) -> None:
    videos = [*three(parts), parts.Video("d", (parts.Actor(0, HERE),), "train", status="failed")]
    world.write(videos)
    with pytest.raises(ReelmillError, match=r"1 of 4 annotated videos have no maps: d: 1 of 1: features/maps: trunc"):
        load(world, world.tubes())
    data = load(world, world.tubes(), missing=1)
    assert data.coverage("train") == (1, 2)


# ---------------------------------------------------------------- views, classes, splits


def test_boxes_are_those_of_the_view(world: Any, parts: Any) -> None:
    world.view_px = (0, 16, 48, 32)  # the middle half of the width
    videos = three(parts)
    for video in videos:
        video.actors += (parts.Actor(0, (0.0, 0.0, 0.26, 1.0)), parts.Actor(1, (0.125, 0.0, 0.5, 0.5)))
    world.write(videos)
    data = load(world, world.ava())
    assert boxes_at(data, "a", 0) == [([0.0, 0.0, 0.5, 0.5], [0, 1]), ([0.0, 0.5, 0.5, 1.0], [1, 0])]
    assert data.facts["boxes_outside_view"] == 2 * 12  # THERE, and the one of which 4 % are seen


def test_a_class_without_a_training_box_is_refused(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[0].actors = videos[0].actors[:1]
    world.write(videos)
    with pytest.raises(ReelmillError, match=r"class 'wave' has no box at a training keyframe \(4 in val and 4 in test"):
        load(world, world.ava())


def test_a_split_without_a_box_is_refused(world: Any, parts: Any) -> None:
    videos = three(parts)
    videos[1].actors = ()
    world.write(videos)
    with pytest.raises(ReelmillError, match="no keyframe with maps and a box in them is in split val"):
        load(world, world.ava())


def test_other_annotations_are_refused(world: Any, parts: Any, tmp_path: Path) -> None:
    world.write(three(parts))
    with pytest.raises(UsageError, match=r"heads/who: .*nowhere\.json"):
        load(world, {"kind": "tubes", "path": str(tmp_path / "nowhere.json")})
    (tmp_path / "none.json").write_text(json.dumps({"videos": []}))
    with pytest.raises(ReelmillError, match="heads/who: the annotations have no box"):
        load(world, {"kind": "tubes", "path": str(tmp_path / "none.json")})
    section = world.tubes([parts.Video("far", (parts.Actor(0, HERE),))])
    with pytest.raises(ReelmillError, match=r"none of the 1 annotated videos is in the manifest \('far\.mp4' is one"):
        load(world, section)


# ---------------------------------------------------------------- boxes that are given


def test_the_true_boxes_are_given(world: Any, parts: Any) -> None:
    world.write(three(parts))
    data = load(world, world.ava(), proposals="truth")
    assert data.given is not None
    assert [boxes.tolist() for boxes, _ in data.given[:1]] == [[[*HERE], [*THERE]]]
    assert data.given[0][1].tolist() == [1, 1]


def test_boxes_of_a_csv_are_given(world: Any, parts: Any) -> None:
    videos = [*three(parts), parts.Video("x", seconds=4)]
    world.write(videos)
    lines = ["a,900,0.25,0.5,0.5,1,0.9", "a,900,0,0,0.5,0.5,0.7", "a,901,0,0,1,1,0.85", "x,902,0,0,0.5,0.5,1.0"]
    (world.root / "boxes.csv").write_text("\n".join([*lines, "far,900,0,0,1,1,0.9", "a,oops,0,0,1,1,0.9"]))
    data = load(world, world.ava(videos[:3], start_s=900), proposals=str(world.root / "boxes.csv"))
    assert data.given is not None
    assert [boxes.tolist() for boxes, _ in data.given[:3]] == [[[*HERE]], [[0, 0, 1, 1]], []]
    assert np.allclose(data.given[0][1], 0.9)
    assert data.facts["keyframes_without_given_box"] == 10
    assert data.facts["dropped_of_proposals"]["malformed_row"]["count"] == 1
    assert data.keys.second[data.splits == "none"].tolist() == [2.0]  # where the csv has boxes of it


def test_a_csv_of_no_use_is_refused(world: Any, parts: Any) -> None:
    world.write(three(parts))
    (world.root / "boxes.csv").write_text("a,0,0,0,1,1,0.5\n")
    with pytest.raises(ReelmillError, match=r"boxes\.csv has no box of score 0\.8 or more .* lower min_box_score"):
        load(world, world.ava(), proposals=str(world.root / "boxes.csv"))
    with pytest.raises(UsageError, match=r"heads/who: proposals: .*nowhere\.csv"):
        load(world, world.ava(), proposals=str(world.root / "nowhere.csv"))
