"""Features that are not what their card says, or whose clips are not."""

from __future__ import annotations

import re

import pytest

from pipeline import receipts

NOT_AS_CARD = "its rows were not made as its card says: preprocessing, weights, layer or options were others"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"preprocess": {"resize": [64, 64], "crop": [56, 56]}}, id="another resize"),
        pytest.param({"preprocess": {"short_side": 64, "crop": [56, 56], "colour": "BGR"}}, id="another colour order"),
        pytest.param({"weights": "random:3"}, id="other weights"),
    ],
)
def test_cards_that_claim_other_settings(copy, verified, changes) -> None:
    copy.claim("features/v", **changes)
    report = verified(copy, "features/v", num_clips=2)
    assert report.verdict == "FAILED"
    assert NOT_AS_CARD in report.faults
    rows = [fault for fault in report.faults if "to the row made again from clips/c, under 0.999" in fault]
    assert len(rows) == 2
    assert re.match(r"clip v0@\d+-\d+, view center, from [\d.]+ s: cosine -?0\.\d{6} to the row", rows[0])
    assert [c.worst < 0.999 for c in report.comparisons] == [True, True]


def test_clips_that_were_resized_otherwise_than_their_card_says(copy, verified) -> None:
    copy.claim("clips/c", short_side=None, resize=[72, 80])
    report = verified(copy, "features/v", num_clips=2)
    assert [(c.made_from, c.worst > 0.9999) for c in report.comparisons] == [("clips/c", True), ("videos", False)]
    assert report.faults[1] == (
        "its rows follow from the stored clips/c, but not from the videos: clips/c was not made as its card says"
    )
    assert len([fault for fault in report.faults if "to the row made again from videos, under 0.999" in fault]) == 2


def test_clips_whose_difference_the_rows_do_not_show(copy, verified) -> None:
    copy.claim("clips/c", filter="area")
    report = verified(copy, "features/v", num_clips=1, min_cosine=0.5)
    assert [c.worst > 0.5 for c in report.comparisons] == [True, True]
    assert report.faults[1].endswith("not from the videos: clips/c was not made as its card says")
    assert re.match(r"clip v\d@\d+-\d+ of clips/c: its pixels are [\d.]+ levels off on average, ", report.faults[2])


def test_features_of_flow(copy, verified, config) -> None:
    settings = {"from": "flow/f", "model": "i3d_flow", "weights": "random:0", "layer": "Conv3d_1a_7x7"}
    settings |= {"precision": "fp32", "preprocess": {"short_side": 32, "crop": [32, 32]}, "dense": True}
    features = {"flow": settings}
    copy.make({**config, "features": features}, "features/flow")
    report = verified(copy, "features/flow", num_clips=2)
    assert (report.verdict, report.faults) == ("ok", [])
    assert [(c.made_from, len(c.values)) for c in report.comparisons] == [("flow/f", 2), ("videos", 2)]
    copy.claim("flow/f", bound=10.0)
    report = verified(copy, "features/flow", num_clips=2)
    assert report.verdict == "FAILED"


def test_maps_of_another_crop_than_the_card_says(copy, verified) -> None:
    copy.claim("features/m", preprocess={"short_side": 60, "crop": [56, 56]})
    report = verified(copy, "features/m", num_clips=1)
    assert NOT_AS_CARD in report.faults
    assert {view for view in ("left", "center", "right") for fault in report.faults if f"view {view}," in fault}


def test_rows_that_are_too_many_or_too_few(copy, verified) -> None:
    window = {"frames": 2, "stride": 2}
    copy.claim("features/m", crops=1, window=window)
    faults = verified(copy, "features/m", num_clips=1).faults
    assert any(", view left, " in fault and "this row is stored, and clips/c give none" in fault for fault in faults)
    copy.claim("features/m", crops=3, flip=True, window=window)
    faults = verified(copy, "features/m", num_clips=1).faults
    assert faults[0] == NOT_AS_CARD
    assert ", view left_flip, " in faults[1]
    assert faults[1].endswith("clips/c give this row, and it is not stored")


def test_the_card_in_the_schema_is_compared(copy, verified) -> None:
    copy.claim("features/v", batch_size=3)
    report = verified(copy, "features/v", num_clips=1)
    assert report.faults == ["its parts carry another card in their schema than _card.json: 000000"]


def test_another_precision_than_the_cards_is_held_to_the_bound(copy, verified) -> None:
    card = receipts.read_card(copy.store, "features/v")
    details = {**card.details, "precision": {"used": "fp16"}, "device": "NVIDIA H100"}
    copy.forge("features/v", settings=card.settings, details=details)
    report = verified(copy, "features/v", num_clips=1)
    assert report.verdict == "ok"
    here = report.comparisons[0].remark.removesuffix("; the card's are fp16 on NVIDIA H100")
    assert here.startswith("fp32 on ")


def test_models_and_weights_that_are_not_at_hand(copy, verified) -> None:
    card = receipts.read_card(copy.store, "features/v")
    copy.forge("features/v", settings={**card.settings, "weights": "/nowhere.pth"})
    report = verified(copy, "features/v")
    assert (report.verdict, report.faults) == ("not all checked", [])
    sha256 = card.details["weights"]["sha256"]
    assert report.unchecked == [
        f"the weights that its card names (sha256 {sha256[:12]}…) are not at hand: /nowhere.pth: can't read this file "
        "(No such file or directory); check the path; give their file with --weights"
    ]
    at_hand = card.details["weights"]["source"]
    assert verified(copy, "features/v", weights=at_hand, num_clips=1).verdict == "ok"
    copy.forge("features/v", settings={**card.settings, "model": "c4d"})
    unchecked = verified(copy, "features/v").unchecked
    assert len(unchecked) == 1
    assert unchecked[0].startswith("its card names the model 'c4d', and this version has c3d, efficientnet_lite0")
