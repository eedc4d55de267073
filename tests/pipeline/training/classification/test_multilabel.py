"""The numbers and tables of heads of several labels, against hand-made predictions."""

import csv
import io
import json

import numpy as np
import pytest

from pipeline.training.annotated import Missing
from pipeline.training.checkpoint import Epoch
from pipeline.training.classification.dataset import HeadData
from pipeline.training.classification.multilabel import (
    chance,
    headline,
    mean_ap,
    metrics,
    predictions_csv,
    predictions_table,
    split_results,
)
from pipeline.training.sequences import Sequences
from pipeline.training.task import Trained
from schemas.heads import LinearHead

CLASSES = ((0, "jump"), (4, "run, fast"), (7, "swim"))
IDS = ("a", "b", "c", "d", "e")
SPLITS = np.array(["train", "test", "train", "val", "test"])
LENGTHS = np.array([1, 2, 1, 1, 3])


def make(kind: str, labels: list[list[int]]) -> HeadData:
    windows = np.arange(24, dtype=np.float64).reshape(8, 3)
    sequences = Sequences(IDS, np.zeros((8, 2), np.float32), np.cumsum([0, *LENGTHS]), (2,), windows)
    missing = (Missing("f", "test", "gave no clip"),)
    rows = np.array(labels, dtype=bool)
    return HeadData(IDS, LENGTHS, rows, SPLITS, CLASSES, (), sequences, kind, missing=missing)  # type: ignore[arg-type]


@pytest.fixture
def multi() -> HeadData:
    return make("multi", [[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]])


@pytest.fixture
def dense() -> HeadData:
    return make("dense", [[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0]])


MULTI_TEST = np.array([[0.1, 0.9, 0.8], [0.2, 0.7, 0.9]], dtype=np.float32)  # of b: jump and run; of e: run
DENSE_TEST = np.array(  # of b: nothing; jump and run. of e: run; nothing; run
    [[0.9, 0.1, 0.2], [0.8, 0.2, 0.3], [0.1, 0.9, 0.2], [0.2, 0.3, 0.9], [0.3, 0.1, 0.2]], dtype=np.float32
)


def test_numbers_of_videos_by_hand(multi: HeadData) -> None:
    result = split_results(multi, "test", MULTI_TEST)
    per_class = result.pop("per_class")
    assert result == {
        "videos": 2,
        "annotated_videos": 3,
        "rows": 2,
        "map": pytest.approx(0.75),  # jump 1/2, run 1; swim has no video, and is left out
        "hit1": 0.5,
        "hit5": 1.0,
        "chance": pytest.approx(0.75),
    }
    assert [tuple(row.values()) for row in per_class] == [
        (0, "jump", 1, 0.5),
        (4, "run, fast", 2, 1.0),
        (7, "swim", 0, None),
    ]
    assert mean_ap(multi, "test", MULTI_TEST) == result["map"]


def test_numbers_of_clips_by_hand(dense: HeadData) -> None:
    result = split_results(dense, "test", DENSE_TEST)
    per_class = result.pop("per_class")
    run = (1 + 2 / 3 + 3 / 4) / 3  # found at places 1 and 3, and at 4: it ties with b's first clip, which comes first
    run_tied = (1 + 2 / 3 + 3 / 5) / 3
    assert per_class[1]["ap"] == pytest.approx(run_tied)
    assert run != run_tied
    assert [row["clips"] for row in per_class] == [1, 3, 0]
    assert per_class[0]["ap"] == 0.5
    assert per_class[2]["ap"] is None
    assert result == {
        "videos": 2,
        "annotated_videos": 3,
        "rows": 5,
        "map": pytest.approx((0.5 + run_tied) / 3),  # a class that no clip has counts as 0
        "hit1": pytest.approx(2 / 3),  # of the three clips in which something happens
        "hit5": 1.0,
        "chance": pytest.approx((1 / 5 + 3 / 5) / 3),
    }
    assert chance(dense, "val") == pytest.approx(1 / 3)


def test_where_nothing_happens_there_is_no_hit() -> None:
    data = make("dense", [[1, 0, 0]] + [[0, 0, 0]] * 7)
    result = split_results(data, "test", DENSE_TEST)
    assert (result["hit1"], result["hit5"], result["map"]) == (None, None, 0.0)
    assert headline({"linear": result}) == {"mAP": 0.0, "chance (mAP)": 0.0, "coverage": "2 of 3 videos"}


def test_metrics_of_a_head_and_its_probe(multi: HeadData) -> None:
    history = [Epoch(1, 0.1, 1.0, 0.9, 0.0)]
    settings = LinearHead(kind="linear", features=("c3d",), labels="multi")
    even = np.full((2, 3), 0.5, dtype=np.float32)
    scores = {"train": even, "val": even[:1], "test": MULTI_TEST}
    head = Trained(settings, history, 1, {}, {}, scores)
    probe = Trained(settings, history, 1, {}, {}, scores | {"test": even})
    found = metrics(multi, {"lstm": head, "linear": probe})
    assert found["headline"] == {
        "mAP": pytest.approx(0.75),
        "hit@1": 0.5,
        "hit@5": 1.0,
        "chance (mAP)": pytest.approx(0.75),
        "mAP of the linear probe": found["models"]["linear"]["splits"]["test"]["map"],
        "coverage": "2 of 3 videos",
    }
    assert (found["evaluated_on"], found["protocol"], found["rows"]) == ("test", "mmaction2", "videos")
    assert found["num_items"] == {"train": 2, "val": 1, "test": 2}
    assert "annotations" not in found
    json.dumps(found, allow_nan=False)


def test_predictions_of_videos(multi: HeadData) -> None:
    even = np.full((2, 3), 0.5, dtype=np.float32)
    scores = {"train": even, "val": even[:1], "test": MULTI_TEST}
    rows = list(csv.DictReader(io.StringIO(predictions_csv(multi, scores).decode())))
    assert [row["video_id"] for row in rows] == list(IDS)
    assert rows[1] == {
        "video_id": "b",
        "split": "test",
        "clips": "2",
        "labels": "jump | run, fast",
        "top1": "run, fast",
        "score1": "0.900000",
        "top2": "swim",
        "score2": "0.800000",
        "top3": "jump",
        "score3": "0.100000",
    }
    table = predictions_table(multi, scores)
    assert table.column_names == ["video_id", "split", "label_ids", "probabilities"]
    assert table["video_id"].to_pylist() == list(IDS)
    assert table["label_ids"].to_pylist() == [[0], [0, 4], [4, 7], [7], [4]]
    assert table["probabilities"].to_pylist()[4] == MULTI_TEST[1].tolist()


def test_predictions_of_clips(dense: HeadData) -> None:
    scores = {"train": np.zeros((2, 3), np.float32), "val": np.ones((1, 3), np.float32), "test": DENSE_TEST}
    table = predictions_table(dense, scores)
    assert table["video_id"].to_pylist() == ["a", "b", "b", "c", "d", "e", "e", "e"]
    assert table["split"].to_pylist() == ["train", "test", "test", "train", "val", "test", "test", "test"]
    assert table["center_s"].to_pylist() == [1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 22.0]
    found = np.array(table["probabilities"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(found[[1, 2, 5, 6, 7]], DENSE_TEST)
    assert found[4].tolist() == [1.0, 1.0, 1.0]
    assert json.loads(table.schema.metadata[b"reelmill.classes"])[1] == {"label_id": 4, "label": "run, fast"}
