"""What a localization head is trained on: seconds become steps, and each video and segment is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.training.temporal.dataset import TemporalData
from schemas.errors import ReelmillError, UsageError

Load = Callable[..., TemporalData]
STEPS = 10


@pytest.fixture
def small(dataset: Any, video: Any) -> list[Any]:
    """Four videos of ten windows of 3.2 s, 1.6 s apart from second 0 on: features of [0, 17.6]. Steps are at 1.6 s,
    3.2 s and so on. The third has no segment."""
    spans = [[(1.6, 4.8, 0), (8.0, 9.6, 1)], [(3.2, 6.4, 1), (0.0, 1.6, 0)], [], [(4.0, 8.0, 0)]]
    videos = []
    for index, (segments, split) in enumerate(zip(spans, ("train", "val", "train", "val"), strict=True)):
        clips = np.arange(STEPS, dtype=np.float32)[:, None] + 100 * index * np.ones((1, 4), np.float32)
        videos.append(
            video(f"video-{index}", (0,), clips, split, step_s=1.6, segments=tuple(segments)),
        )
    return videos


def test_seconds_become_steps(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    dataset.write(small)
    data = load(head_of())
    assert data.video_ids == data.names == ("video-0", "video-1", "video-2", "video-3")
    assert data.splits.tolist() == ["train", "val", "train", "val"]
    assert data.classes == ("jump", "run")
    assert data.grid.step_s == 1.6
    assert data.first_s.tolist() == [1.6] * 4
    np.testing.assert_allclose(data.covered_s, [[0.0, 17.6]] * 4)
    assert data.lengths.tolist() == [STEPS] * 4
    assert data.matrix[data.offsets[1] : data.offsets[2], 0].tolist() == [100 + t for t in range(STEPS)]
    np.testing.assert_allclose(data.segments[0].span, [[0, 2], [4, 5]], atol=1e-5)
    assert data.segments[0].label.tolist() == [0, 1]
    np.testing.assert_allclose(data.segments[1].span, [[1, 3], [-1, 0]], atol=1e-5)
    assert len(data.segments[2]) == 0
    assert data.train_steps.tolist() == [True] * STEPS + [False] * STEPS + [True] * STEPS + [False] * STEPS
    assert data.facts == {"segments": 5, "left_out": {}, "dropped": {}}


def test_segments_are_cut_where_features_end(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    small[0].segments += ((16.0, 30.0, 0), (17.6, 20.0, 1), (40.0, 50.0, 1))
    dataset.write(small)
    data = load(head_of())
    np.testing.assert_allclose(data.segments[0].span, [[0, 2], [4, 5], [9, 10]], atol=1e-5)
    assert len(data.truth) == 8  # for the metric the truth stays as it is
    assert data.facts["segments"] == 8
    assert data.facts["dropped"] == {
        "segment_beyond_features": {
            "count": 1,
            "first": ["video-0: jump: segment [16, 30] is only partly covered by features, which are of [0, 17.6]"],
        },
        "segment_outside_features": {
            "count": 2,
            "first": [
                "video-0: run: segment [17.6, 20] is not covered by features, which are of [0, 17.6]",
                "video-0: run: segment [40, 50] is not covered by features, which are of [0, 17.6]",
            ],
        },
    }


def test_features_may_begin_late(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    small[0].start_s = 3.2
    dataset.write(small)
    data = load(head_of())
    np.testing.assert_allclose(data.covered_s[0], [3.2, 20.8])
    np.testing.assert_allclose(data.segments[0].span, [[-1, 0], [2, 3]], atol=1e-5)  # of [1.6, 4.8] the second half


def test_videos_without_annotation_get_predictions_only(
    dataset: Any, small: list[Any], head_of: Any, load: Load, write_activitynet: Any
) -> None:
    path = write_activitynet(small[:2])
    dataset.write(small)
    data = load(head_of(annotations={"kind": "activitynet", "json": path}))
    assert data.splits.tolist() == ["train", "val", "none", "none"]
    assert [len(one) for one in data.segments] == [2, 2, 0, 0]
    assert not data.missing
    assert data.facts["left_out"] == {"no_annotation": 2}
    by_id = {row.video_id: row for row in data.ledger}
    assert [by_id[name].status for name in data.video_ids] == ["ok", "ok", "filtered", "filtered"]
    assert by_id["video-0"].num_items == STEPS
    assert by_id["video-2"].reason == "not_trained"
    assert by_id["video-2"].message == "is not annotated; what the head finds in it is in its predictions"


def test_segments_of_videos_that_are_not_trained_on_add_no_class(
    dataset: Any, small: list[Any], head_of: Any, load: Load, write_activitynet: Any
) -> None:
    """The annotations name a class in a video that the manifest lacks."""
    more = {"elsewhere": {"subset": "training", "annotations": [{"segment": [1, 2], "label": "swim"}]}}
    path = write_activitynet(small, **more)
    dataset.write(small)
    data = load(head_of(annotations={"kind": "activitynet", "json": path}, missing=1))
    assert data.classes == ("jump", "run")
    assert [(one.name, one.split, one.message) for one in data.missing] == [
        ("elsewhere", "train", "not in the manifest")
    ]
    assert data.num_annotated("train") == 3
    assert data.num_annotated("val") == 2


def test_missing_features_are_named_and_refused(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    small[2].status = "failed"
    dataset.write(small)
    with pytest.raises(ReelmillError) as error:
        load(head_of())
    assert str(error.value) == (
        "heads/h: 1 of 4 annotated videos have no features: video-2 (features/c3d: truncated); make their features, or "
        "allow for that many with `missing: 1`"
    )
    data = load(head_of(missing="25%"))
    assert data.video_ids == ("video-0", "video-1", "video-3")
    assert [row.status for row in data.ledger] == ["ok", "ok", "failed", "ok"]
    assert data.num_annotated("train") == 2


def test_features_of_another_stride_are_named(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    small[3].step_s = 2.0
    dataset.write(small)
    with pytest.raises(ReelmillError, match=r"the windows of video video-3 are not 1\.6 s apart"):
        load(head_of())


def test_products_of_different_strides_are_refused(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    dataset.write(small)
    for video in small:
        video.step_s = 3.2
    dataset.write(small, name="other", manifest=False)
    with pytest.raises(ReelmillError, match="features/c3d and features/other were cut differently"):
        load(head_of())


def test_two_products_stand_side_by_side(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    dataset.write(small)
    for video in small:
        video.clips = -video.clips[:, :2]
    dataset.write(small, name="flow", manifest=False)
    data = load(head_of())
    assert data.blocks == (4, 2)
    assert data.matrix[1].tolist() == [1, 1, 1, 1, -1, -1]


def test_a_class_without_an_example_is_refused(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    small[1].segments += ((8.0, 9.0, 2),)
    dataset.write(small)
    with pytest.raises(ReelmillError) as error:
        load(head_of())
    assert str(error.value) == (
        "heads/h: class 'swim' has no segment in a training video (1 in val and 0 in test); annotate more videos, or "
        "change holdout.fraction or holdout.seed"
    )


def test_a_class_whose_examples_have_no_features_is_refused(
    dataset: Any, small: list[Any], head_of: Any, load: Load
) -> None:
    small[0].segments += ((80.0, 90.0, 2),)
    dataset.write(small)
    with pytest.raises(ReelmillError, match="class 'swim' has no segment in a training video"):
        load(head_of())


def test_a_split_whose_segments_have_no_features_is_refused(
    dataset: Any, small: list[Any], head_of: Any, load: Load
) -> None:
    small[1].segments, small[3].segments = ((80.0, 90.0, 0),), ()
    dataset.write(small)
    with pytest.raises(ReelmillError) as error:
        load(head_of())
    assert str(error.value) == (
        "heads/h: features cover no segment of the 2 annotated videos of split val; annotate more videos, or change "
        "holdout.fraction or holdout.seed"
    )


def test_ambiguous_segments_are_truth_and_no_examples(
    dataset: Any, small: list[Any], head_of: Any, load: Load, tmp_path: Path
) -> None:
    spans: dict[str, dict[str, Any]] = {
        "video-0": {"subset": "training", "annotations": [{"segment": [1.6, 4.8], "label": "Diving"}]},
        "video-1": {
            "subset": "test",
            "annotations": [
                {"segment": [1.6, 4.8], "label": "Diving"},
                {"segment": [6.4, 8.0], "label": "Ambiguous"},
            ],
        },
        "video-2": {"subset": "training", "annotations": [{"segment": [0.0, 9.0], "label": "Ambiguous"}]},
        "video-3": {"subset": "validation", "annotations": [{"segment": [0.0, 9.0], "label": "Diving"}]},
    }
    path = tmp_path / "thumos.json"
    path.write_text(json.dumps({"database": spans}))
    for video in small:
        video.segments, video.split = (), None
    dataset.write(small)
    data = load(head_of(annotations={"kind": "thumos14", "path": str(path)}, protocol="thumos"))
    assert data.classes == ("Diving",)
    assert data.splits.tolist() == ["train", "test", "train", "val"]
    assert len(data.truth) == 5
    assert len(data.truth.ambiguous()) == 2
    assert [len(one) for one in data.segments] == [1, 1, 0, 1]
    assert data.facts["segments"] == 3


def test_annotations_that_are_not_there_are_refused(dataset: Any, small: list[Any], head_of: Any, load: Load) -> None:
    dataset.write(small)
    with pytest.raises(UsageError, match=r"heads/h: .*nowhere\.json"):
        load(head_of(annotations={"kind": "activitynet", "json": "/nowhere.json"}))
