"""The heads section: what is refused, each in one sentence, and what a head is trained on."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.heads import Head, HeadBase, task_of

HEAD: TypeAdapter[Any] = TypeAdapter(Head)
AVA = {"kind": "ava", "csv": "boxes.csv", "labels": "actions.pbtxt"}


def head(**values: Any) -> HeadBase:
    parsed: HeadBase = HEAD.validate_python({"features": ["c3d"], **values})
    return parsed


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "lstm", "labels": "dense"}, "labels: dense needs a class for each clip; set output: many-to-many"),
        ({"kind": "linear", "annotations": {"kind": "manifest"}}, "annotations: these go with labels: dense"),
        ({"kind": "linear", "labels": "dense", "annotations": AVA}, "'ava' found using 'kind' does not match"),
        ({"kind": "roi", "annotations": {"kind": "manifest"}}, "'manifest' found using 'kind' does not match"),
        ({"kind": "linear", "features": ["c3d", "c3d"]}, "features: 'c3d' stands here twice"),
        ({"kind": "mean_pool", "labels": "dense"}, "mean_pool has one answer a video"),
        ({"kind": "late_fusion"}, "late_fusion fuses two feature products or more"),
        ({"kind": "actionformer", "channels": 100, "heads": 3}, "channels: 100 can't be shared evenly by heads: 3"),
        ({"kind": "talnet", "warmup_epochs": 99, "epochs": 99}, "warmup_epochs: 99 leaves none of the 99 epochs"),
        ({"kind": "roi"}, "annotations"),
        ({"kind": "talnet", "missing": "2 percent"}, 'write a count of rows or a share such as "2%"'),
        ({"kind": "talnet", "anchors": []}, "at least 1 item"),
        ({"kind": "talnet", "anchors": [2, 0]}, "greater than 0"),
        ({"kind": "talnet", "tiou": [0.5, 1.5]}, "less than or equal to 1"),
        ({"kind": "talnet", "tiou": []}, "at least 1 item"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence.replace("(", r"\(")):
        head(**values)


@pytest.mark.parametrize("crop_scale", [(0.0, 1.0), (0.9, 0.5), (0.5, 1.1)])
def test_a_crop_is_a_share_of_the_frame(crop_scale: tuple[float, float]) -> None:
    values = {"kind": "clip_classifier", "from": "clips/a", "model": "c3d", "weights": "random:0"}
    with pytest.raises(ValidationError, match="crop_scale: two shares"):
        HEAD.validate_python({**values, "augment": {"crop_scale": crop_scale}})


def test_what_heads_are_trained_on() -> None:
    clips = HEAD.validate_python(
        {"kind": "clip_classifier", "from": "flow/tvl1", "model": "i3d_flow", "weights": "random:0"}
    )
    assert (clips.sources, task_of(clips)) == (("flow/tvl1",), "clips")
    roi = head(kind="roi", annotations=AVA, features=["maps", "more"])
    assert (roi.sources, task_of(roi)) == (("features/maps", "features/more"), "detection")
    assert task_of(head(kind="talnet")) == "temporal"
    assert [task_of(head(kind=kind)) for kind in ("lstm", "gru", "linear", "mean_pool")] == ["classification"] * 4


def test_short_trainings_warm_up_less() -> None:
    assert [head(kind="actionformer", epochs=n).warmup_epochs for n in (1, 2, 8, 40)] == [0, 0, 2, 5]
    assert head(kind="actionformer", epochs=4, warmup_epochs=3).warmup_epochs == 3
    with pytest.raises(ValidationError, match="leaves none of the 4 epochs"):
        head(kind="actionformer", epochs=4, warmup_epochs=4)
