"""What a precision costs is measured, and `auto` does not take one that costs too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_backbones import small

from pipeline.backbones import build, probe
from pipeline.backbones.precision import Precision

CPU = torch.device("cpu")


def use(monkeypatch: pytest.MonkeyPatch, used: str) -> None:
    monkeypatch.setattr(probe, "choose", lambda asked, on: Precision(used if asked == "auto" else asked, "this test"))


def test_textured_clips_are_seeded_and_move() -> None:
    clips = probe.textured_clips(3, frames=5, size=(30, 40), seed=1)
    assert clips.shape == (3, 5, 30, 40, 3)
    assert np.array_equal(clips, probe.textured_clips(3, frames=5, size=(30, 40), seed=1))
    assert not np.array_equal(clips, probe.textured_clips(3, frames=5, size=(30, 40), seed=2))
    assert clips[0, 0].std() > 20
    assert any(not np.array_equal(clip[0], clip[1]) for clip in clips)


def test_probe_clips_are_what_the_net_takes() -> None:
    assert probe.probe_clips(small().spec, frames=6).shape == (probe.CLIPS, 6, 16, 16, 3)
    flow = probe.probe_clips(small("flow").spec, frames=6)
    assert flow.shape == (probe.CLIPS, 6, 16, 16, 2)
    assert -20 <= flow.min() < -10
    assert 10 < flow.max() <= 20


def test_difference_measures() -> None:
    exact = np.array([[1.0, 0.0], [3.0, 4.0]], np.float32)
    rounded = np.array([[1.0, 0.0], [4.0, 3.0]], np.float32)
    assert probe.difference(exact, rounded) == probe.Difference(2, probe.SEED, 0.96, 1.0, 4.0)


def test_bf16_features_of_c3d_stay_close_to_fp32() -> None:
    net = build("c3d", weights="random:2")
    chosen, found = probe.measured(net, asked="bf16", layer="fc7", frames=16, on=CPU)
    assert chosen.used == "bf16"
    assert 0.9995 <= found["cosine_min"] < 1
    assert found["max_abs"] > 0, "bf16 was really used"


def test_auto_takes_the_fast_precision_where_it_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "bf16")
    chosen, found = probe.measured(small(), asked="auto", layer="conv2", frames=4, on=CPU)
    assert chosen.used == "bf16"
    assert found["cosine_min"] >= probe.COSINE_MIN


def test_auto_stays_with_fp32_where_weights_do_not_bear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "bf16")
    monkeypatch.setattr(probe, "COSINE_MIN", 1.1)  # no weights bear that
    chosen, found = probe.measured(small(), asked="auto", layer="conv2", frames=4, on=CPU)
    assert chosen.used == "fp32"
    assert "bf16 gives these weights a cosine of" in chosen.why
    assert found["max_abs"] == 0


def test_asked_for_by_name_it_is_used_whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "COSINE_MIN", 1.1)
    chosen, _ = probe.measured(small(), asked="bf16", layer="conv2", frames=4, on=CPU)
    assert chosen.used == "bf16"
