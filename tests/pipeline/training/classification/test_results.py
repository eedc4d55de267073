"""The numbers and tables of a head, against hand-made predictions."""

import csv
import io

import numpy as np
import pytest

from pipeline.training.annotated import Missing
from pipeline.training.checkpoint import Epoch
from pipeline.training.classification.dataset import LabelledVideos
from pipeline.training.classification.results import metrics, predictions_csv, split_results
from pipeline.training.splits import evaluated_on
from pipeline.training.task import Trained
from schemas.heads import LinearHead

CLASSES = ((0, "jump"), (4, "run, fast"), (7, "swim"))


def make(splits: list[str]) -> LabelledVideos:
    labels = np.array([0, 0, 1, 2, 0, 1, 2, 1])
    ids = tuple(f"v{n}" for n in range(8))
    missing = (Missing("v8", "test", "gave no clip"), Missing("v9", None, "not in the manifest"))
    return LabelledVideos(ids, np.full(8, 2), labels, np.array(splits), CLASSES, (), missing=missing)


@pytest.fixture
def data() -> LabelledVideos:
    return make(["train"] * 4 + ["val"] + ["test"] * 3)


TEST_SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]], dtype=np.float32)  # labels 1, 2, 1


def test_split_results_by_hand(data: LabelledVideos) -> None:
    result = split_results(data, "test", TEST_SCORES)
    per_class = result.pop("per_class")
    assert result == {
        "videos": 3,
        "annotated_videos": 5,
        "top1": pytest.approx(1 / 3),  # the third ties with jump, which comes first
        "top5": 1.0,
        "mean_class_accuracy": 0.25,  # run, fast 1/2, swim 0; jump has no test video
        "majority": 0.0,  # jump is commonest in train
    }
    assert [(row["label"], row["videos"], row["right"], row["accuracy"]) for row in per_class] == [
        ("jump", 0, 0, None),
        ("run, fast", 2, 1, 0.5),
        ("swim", 1, 0, 0.0),
    ]


def scores(data: LabelledVideos) -> dict:
    even = np.full((4, 3), 1 / 3, dtype=np.float32)
    return {"train": even, "val": even[:1], "test": TEST_SCORES}


def test_metrics_say_what_was_selected_and_evaluated_on(data: LabelledVideos) -> None:
    history = [Epoch(1, 0.1, 1.0, 0.9, 0.0), Epoch(2, 0.1, 0.8, 0.7, 1.0), Epoch(3, 0.1, 0.7, 0.7, 1.0)]
    settings = LinearHead(kind="linear", features=("c3d",))
    found = metrics(data, {"linear": Trained(settings, history, 2, {}, {}, scores(data))})
    assert found["top1"] == found["models"]["linear"]["splits"]["test"]["top1"] == pytest.approx(1 / 3)
    assert found["chance"] == pytest.approx(1 / 3)
    assert (found["top_k"], found["evaluated_on"]) == (3, "test")
    assert found["headline"] == {"top-1": found["top1"], "mean class accuracy": 0.25, "chance": found["chance"]}
    assert found["num_annotated"] == {"train": 5, "val": 2, "test": 5}  # v9 may be of any split
    assert found["missing"] == ["v8: gave no clip", "v9: not in the manifest"]
    assert found["num_videos"] == {"train": 4, "val": 1, "test": 3}
    assert found["num_clips"] == {"train": 8, "val": 2, "test": 6}
    assert (found["models"]["linear"]["best_epoch"], found["models"]["linear"]["best_val_loss"]) == (2, 0.7)


def test_without_test_videos_val_is_reported_and_said(data: LabelledVideos) -> None:
    assert evaluated_on(data.present) == "test"
    assert evaluated_on(make(["train"] * 4 + ["val"] * 4).present) == "val"


def test_predictions_list_every_video_in_manifest_order(data: LabelledVideos) -> None:
    rows = list(csv.DictReader(io.StringIO(predictions_csv(data, scores(data)).decode())))
    assert [row["video_id"] for row in rows] == [f"v{n}" for n in range(8)]
    assert rows[5] == {
        "video_id": "v5",
        "split": "test",
        "clips": "2",
        "label": "run, fast",
        "predicted": "run, fast",
        "top1": "run, fast",
        "score1": "0.700000",
        "top2": "swim",
        "score2": "0.200000",
        "top3": "jump",
        "score3": "0.100000",
    }
    assert (rows[7]["label"], rows[7]["predicted"]) == ("run, fast", "jump")
