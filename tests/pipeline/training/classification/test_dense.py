"""Targets of clips from segments: which clips a segment makes active, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.training.classification.dataset import HeadData
from pipeline.training.classification.dense import load_dense
from pipeline.training.tasks import settings_of
from schemas.errors import ReelmillError

SPLITS = ("train", "val", "test")


def load(dataset: Any, **settings: Any) -> HeadData:
    product = dataset.head(**{"kind": "linear", "labels": "dense"} | settings)
    return load_dense(dataset.source(product), settings_of(product.settings))  # type: ignore[arg-type]


@pytest.fixture
def by_hand(dataset: Any, video: Any) -> Callable[..., HeadData]:
    """Data of videos of four clips, centred on 1, 3, 5 and 7 s, with the same segments each."""

    def make(*segments: tuple[float, float, int], **settings: Any) -> HeadData:
        clips = np.zeros((4, 2), np.float32)
        videos = [
            video(f"v{index}", (), clips, split, start_s=-0.6, step_s=2.0, segments=segments)
            for index, split in enumerate(SPLITS)
        ]
        dataset.write(videos)
        return load(dataset, **settings)

    return make


def test_a_class_is_active_where_a_segment_covers_the_centre(by_hand: Callable[..., HeadData]) -> None:
    data = by_hand((1.0, 5.0, 3), (2.9, 3.1, 1), (0.0, 3.0, 1), (6.5, 99.0, 3), (5.5, 6.5, 1))
    assert data.classes == ((1, "run"), (3, "wave"))
    np.testing.assert_array_equal(
        data.labels[:4],
        [
            [True, True],  # wave begins at 1 s and is in; run's [0, 3) too
            [True, True],  # [0, 3) ends there, and [2.9, 3.1) covers it
            [False, False],  # [1, 5) ends there
            [False, True],
        ],
    )
    assert data.annotations == {"segments": 15, "segments_without_clip": 3, "left_out": {}, "dropped": {}}
    assert data.rows_of(np.array([2, 0])).tolist() == [8, 9, 10, 11, 0, 1, 2, 3]


def test_bad_segments_are_counted(by_hand: Callable[..., HeadData]) -> None:
    data = by_hand((0.0, 8.0, 0), (5.0, 3.0, 1), (2.0, 2.0, 1), (-1.0, 4.0, 1))
    assert data.classes == ((0, "jump"),)
    assert {kind: found["count"] for kind, found in data.annotations["dropped"].items()} == {
        "empty_segment": 3,
        "inverted_segment": 3,
        "segment_before_start": 3,
    }


def test_ambiguous_segments_make_nothing_active(dataset: Any, video: Any, tmp_path: Path) -> None:
    dataset.write([video(f"v{index}", (), np.zeros((3, 2), np.float32), split) for index, split in enumerate(SPLITS)])
    segments = [{"segment": [0.0, 3.0], "label": "Diving"}, {"segment": [0.0, 9.0], "label": "Ambiguous"}]
    database = {
        f"v{index}": {"subset": subset, "annotations": segments}
        for index, subset in enumerate(("training", "validation", "testing"))
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"database": database}))
    data = load(dataset, annotations={"kind": "thumos14", "path": str(path)})
    assert [name for _, name in data.classes] == ["Diving"]
    assert data.labels.tolist() == [[True], [False], [False]] * 3


def test_every_manifest_row_is_accounted_for(dataset: Any, make_activity_task: Callable[..., Any]) -> None:
    videos = make_activity_task(30, splits=(*SPLITS, "train"))
    videos[0].status, videos[1].split, videos[2].status = "failed", None, "partial"
    dataset.write(videos)
    data = load(dataset, missing=1)
    assert [row.video_id for row in data.ledger] == [video.video_id for video in videos]
    assert [(row.status, row.reason) for row in data.ledger[:4]] == [
        ("failed", "upstream"),
        ("filtered", "no_split"),
        ("partial", "upstream"),
        ("ok", ""),
    ]
    assert len(data.labels) == sum(row.num_items for row in data.ledger) == len(data.sequences.matrix)
    assert [one.name for one in data.missing] == ["video-0000"]  # a video without a split is not missed


def test_videos_of_a_withheld_split_are_left_out(dataset: Any, make_activity_task: Callable[..., Any]) -> None:
    videos = make_activity_task(30, splits=SPLITS)
    for video in videos:
        if video.split == "test":
            video.segments = ()
    videos[0].segments = ()  # of train: nothing happens in it
    dataset.write(videos)
    data = load(dataset)
    assert data.present == ("train", "val")
    assert data.annotations["left_out"] == {"withheld": 9}
    assert not data.labels[data.rows_of(np.array([0]))].any()
    assert [row.reason for row in data.ledger if row.status == "filtered"] == ["withheld"] * 9


def _nothing(videos: list[Any]) -> None:
    for video in videos:
        video.segments = ()


def _failed(videos: list[Any]) -> None:
    for video in videos:
        video.status = "failed"


def _untrained(videos: list[Any]) -> None:
    videos[3].segments += ((0.0, 4.0, 2),)
    videos[6].segments += ((1.0, 8.0, 2),)
    videos[0].segments += ((0.0, 1.5, 2),)  # of train, but over before the first clip's centre


def _short(videos: list[Any]) -> None:
    for video in videos:
        video.segments = ((0.0, 1.0, 0),)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            _nothing,
            "heads/actions: none of the 30 videos of the manifest has a segment; name the file that has them, e.g. "
            "annotations: {kind: activitynet, json: …}",
        ),
        (
            _failed,
            "heads/actions: no annotated video has features; see the ledger of its features for the reasons",
        ),
        (
            _untrained,
            "heads/actions: class 'swim' is active at the centre of no training clip (1 in val and 2 in test); make "
            "clips with a shorter stride_s, annotate more videos, or leave the class out of the annotations",
        ),
        (
            _short,
            "heads/actions: class 'jump' is active at the centre of no training clip (0 in val and 0 in test); make "
            "clips with a shorter stride_s, annotate more videos, or leave the class out of the annotations",
        ),
    ],
)
def test_errors_are_one_sentence(
    dataset: Any, make_activity_task: Callable[..., Any], spoil: Callable[[list[Any]], None], message: str
) -> None:
    videos = make_activity_task(30, splits=SPLITS)
    spoil(videos)
    dataset.write(videos)
    with pytest.raises(ReelmillError) as error:
        load(dataset, missing="100%")
    assert str(error.value) == message
