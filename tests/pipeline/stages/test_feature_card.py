"""What a features card says, and each sentence that refuses before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_dataset import FPS, FRAMES, clips_product, features_product, write_card, write_flow

from pipeline.stages.feature_card import describe
from pipeline.store import Store
from schemas.errors import ReelmillError, UsageError

pytestmark = pytest.mark.usefixtures("small_models")


def described(store: Store, *, clips: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    upstream = clips_product(**(clips or {}))
    write_card(store, upstream)
    return describe(features_product(upstream, **settings), store)


def test_the_card_has_all_that_the_numbers_come_from(store: Store) -> None:
    details = described(store, crops=3, window={"frames": 4, "stride": 3}, precision="auto")
    assert json.loads(json.dumps(details)) == details, "plain JSON values"
    assert (details["model"], details["layer"], details["dim"]) == ("small_rgb", "conv2", 12)
    assert details["weights"]["words"] == "random weights, seed 1: asked for by name"
    assert details["preprocessing"]["recipe"] == "small"
    assert details["preprocessing"]["crop"] == [16, 16]
    assert details["preprocessing"]["words"]
    assert details["views"]["views"] == 3
    assert (details["window"]["windows"], details["window"]["stride_frames"]) == (2, 3)
    assert "the last 1 frames of a clip" in details["window"]["words"]
    assert details["precision"]["asked"] == "auto"
    assert details["precision"]["difference_to_fp32"]["cosine_min"] >= 0.9995
    assert details["deviations"] == ["4 frames enter small_rgb at once, and the published model takes 8"]
    assert "maps" not in details


def test_the_card_of_maps_of_frames_of_any_size(store: Store) -> None:
    details = described(
        store, clips={"resize": None}, dense=True, layer="conv1", preprocess={"resize": "none", "crop": "none"}
    )
    assert details["maps"]["shape"] == "follows from the size of the frames"
    assert (details["dim"], details["maps"]["dtype"], details["maps"]["time_pool"]) == (8, "float32", "none")


def test_flow_has_its_own_card(store: Store) -> None:
    flow = write_flow(store)
    details = describe(features_product(flow), store)
    assert details["window"] == {"frames": FRAMES, "words": "each clip of flow/tvl1 whole"}
    assert details["preprocessing"]["bound_px"] == 20
    assert details["deviations"] == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "c4d"}, "model: nothing is named 'c4d'"),
        ({"layer": "avgpool"}, "layer: small_rgb has no 'avgpool'; it has conv1, conv2, logits"),
        ({"layer": "logits", "dense": True}, "small_rgb's logits is a vector, without a map of places; dense features"),
        (
            {"window": {"frames": 1, "stride": 1}},
            "window: small_rgb takes clips of 2 or more frames, got 1$",
        ),
        ({"preprocess": {"resize": [12, 12]}}, "clips/rgb: a crop of 16×16 .* does not fit inside frames of 12×12"),
        ({"preprocess": {"recipe": "other"}}, "small_rgb has no recipe 'other'; it has small"),
        ({"preprocess": {"bound": 20}}, "preprocess.bound: this is for flow models, and small_rgb takes rgb"),
        ({"preprocess": {"crop": "none"}, "crops": 3}, "crops: 3 crops of frames that are no larger than the crop are"),
        ({"model": "small_flow"}, "from: small_flow takes flow, and clips/rgb holds something else"),
        ({"clips": {"resize": [16, 16]}, "crops": 10}, "crops: 10 crops of frames that are no larger than the crop"),
        (
            {"clips": {"resize": None, "short_side": 12}, "preprocess": {"resize": "none"}},
            "clips/rgb: its frames have short_side 12, and a crop of 16×16 .* does not fit inside; store larger clips",
        ),
        (
            {"model": "c3d"},
            "the clips of clips/rgb: c3d takes clips of 16 frames, got 8; change them there$",
        ),
    ],
)
def test_what_can_t_work_is_one_sentence(store: Store, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        described(store, **settings)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_there(store: Store) -> None:
    with pytest.raises(ReelmillError, match=r"/nowhere/x\.pt"):
        described(store, weights="/nowhere/x.pt")


def test_flow_of_another_size_than_the_recipe_s(store: Store) -> None:
    flow = write_flow(store, resize=[32, 48])
    with pytest.raises(UsageError, match=r"flow/tvl1: small computes flow on frames of resize:.* not resized after"):
        describe(features_product(flow), store)


def test_a_mean_volume_of_another_length(store: Store, tmp_path: Path) -> None:
    volume = tmp_path / "mean.npy"
    np.save(volume, np.zeros((8, 16, 16, 3), np.float32))
    described(store, preprocess={"mean": str(volume)})
    with pytest.raises(UsageError, match=r"mean\.npy holds 8 frames, and 4 enter the net"):
        described(store, preprocess={"mean": str(volume)}, window={"frames": 4, "stride": 4})


def test_the_rate_of_the_windows_is_the_clips(store: Store) -> None:
    details = described(store, window={"frames": 4, "stride": 4})
    assert details["window"]["fps"] == FPS
