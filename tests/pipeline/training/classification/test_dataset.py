"""The data of a head: labels, splits, and a ledger in which every manifest row appears once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.training.classification.dataset import HeadData, load_data
from pipeline.training.tasks import settings_of
from schemas.errors import ReelmillError


def load(dataset: Any, **settings: Any) -> HeadData:
    product = dataset.head(**settings)
    return load_data(dataset.source(product), settings_of(product.settings))  # type: ignore[arg-type]


def test_labels_and_splits_follow_the_videos(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(24, splits=("train", "train", "val", "test"))
    for video in videos:
        video.label_ids = (3 if video.label_ids[0] else 1,)  # label ids need not be dense
    dataset.write(videos)
    data = load(dataset)
    assert data.classes == ((1, "run"), (3, "wave"))
    assert data.labels.tolist() == [index % 2 for index in range(24)]
    assert data.splits.tolist() == [video.split for video in videos]
    assert data.present == ("train", "val", "test")
    of_train = np.concatenate([np.full(len(v.clips), v.split == "train") for v in videos])
    assert np.array_equal(data.train_clips, of_train)


def test_every_manifest_row_is_accounted_for_once(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(40, splits=("train", "train", "val", "test"))
    videos[0].status, videos[1].status, videos[2].status = "failed", "filtered", "partial"
    videos[3].label_ids, videos[4].label_ids = (), (0, 1)
    videos[5].split = None
    videos[6].clips = videos[6].clips[:0]  # its features are ok, but it has none
    videos[7].status, videos[7].label_ids = "failed", ()
    dataset.write(videos)
    data = load(dataset)
    found = [(row.video_id, row.status, row.reason, row.num_items > 0) for row in data.ledger]
    assert [entry[0] for entry in found] == [video.video_id for video in videos]
    assert [entry[1:] for entry in found[:8]] == [
        ("failed", "upstream", False),
        ("filtered", "upstream", False),
        ("partial", "upstream", True),
        ("filtered", "no_label", False),
        ("filtered", "multi_label", False),
        ("filtered", "no_split", False),
        ("filtered", "no_clips", False),
        ("failed", "upstream", False),
    ]
    assert Counter(entry[1] for entry in found[8:]) == {"ok": 32}
    assert data.ledger[0].message == "features/c3d: truncated"
    assert len(data.labels) == 33
    assert sum(row.num_items for row in data.ledger) == len(data.sequences.matrix)


def _one_class(videos: list[Any]) -> None:
    for video in videos:
        video.label_ids = (2,)


def _untrained_class(videos: list[Any]) -> None:
    videos[5].label_ids, videos[5].split = (2,), "val"
    videos[7].label_ids, videos[7].split = (2,), "test"


def _no_features(videos: list[Any]) -> None:
    for video in videos:
        video.status = "failed"


def _failing(split: str) -> Callable[[list[Any]], None]:
    def fail(videos: list[Any]) -> None:
        for video in videos:
            video.status = "failed" if video.split == split else "ok"

    return fail


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_one_class, "heads/actions: all 24 usable videos are of class 'swim'; a head needs two classes"),
        (
            _untrained_class,
            "heads/actions: class 'swim' has no training video (1 in val and 1 in test); label more videos, or change "
            "holdout.fraction or holdout.seed",
        ),
        (
            _no_features,
            "heads/actions: no labelled video has features; see the ledger of its features for the reasons",
        ),
        (
            _failing("val"),
            "heads/actions: no usable video is in split val (12 in train, 6 in test); label more videos, or change "
            "holdout.fraction or holdout.seed",
        ),
        (
            _failing("test"),
            "heads/actions: no usable video is in split test (12 in train, 6 in val); label more videos, or change "
            "holdout.fraction or holdout.seed",
        ),
    ],
)
def test_errors_are_one_sentence(
    dataset: Any, make_order_task: Callable[..., Any], spoil: Callable[[list[Any]], None], message: str
) -> None:
    videos = make_order_task(24, splits=("train", "train", "val", "test"))
    spoil(videos)
    dataset.write(videos)
    with pytest.raises(ReelmillError) as error:
        load(dataset)
    assert str(error.value) == message


def test_a_class_whose_videos_all_failed_does_not_stop_the_others(
    dataset: Any, make_order_task: Callable[..., Any]
) -> None:
    videos = make_order_task(24, splits=("train", "val", "test"))
    videos[3].label_ids, videos[3].status = (2,), "failed"
    dataset.write(videos)
    assert load(dataset).classes == ((0, "jump"), (1, "run"))


def test_several_labels_a_video(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(24, splits=("train", "val", "test"))
    videos[0].label_ids, videos[1].label_ids, videos[2].label_ids = (3, 0), (), (1, 3)
    dataset.write(videos)
    data = load(dataset, kind="linear", labels="multi")
    assert data.classes == ((0, "jump"), (1, "run"), (3, "wave"))
    assert data.labels[:4].tolist() == [[1, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert (data.ledger[1].status, data.ledger[1].reason) == ("filtered", "no_label")
    assert data.kind == "multi"


def test_labelled_videos_without_features_are_counted(dataset: Any, make_order_task: Callable[..., Any]) -> None:
    videos = make_order_task(24, splits=("train", "val", "test"))
    videos[4].status, videos[5].clips = "failed", videos[5].clips[:0]
    videos[6].status, videos[6].label_ids = "failed", ()  # of no class, so the head does not miss it
    dataset.write(videos)
    data = load(dataset)
    assert [(one.name, one.split, one.message) for one in data.missing] == [
        ("video-0004", "test", "features/c3d: truncated"),
        ("video-0005", "test", "gave no clip"),
    ]
    assert len(data.videos_of("test")) == 6
    assert [data.num_annotated(split) for split in ("train", "val", "test")] == [7, 8, 8]
