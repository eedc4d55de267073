"""Which precision is chosen, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.backbones import build, precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "used", "why"),
    [
        ({"avx512f", "avx512_bf16", "amx_bf16"}, "bf16", "this CPU has amx_bf16 and avx512_bf16"),
        ({"avx512f", "avx512_bf16"}, "bf16", "this CPU has avx512_bf16"),
        ({"avx512f"}, "fp32", "this CPU has neither amx_bf16 nor avx512_bf16"),
    ],
)
def test_auto_follows_the_cpu(monkeypatch: pytest.MonkeyPatch, flags: set[str], used: str, why: str) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: frozenset(flags))
    assert precision.choose("auto", CPU) == precision.Precision(used, why)  # type: ignore[arg-type]
    assert precision.choose("fp32", CPU) == precision.Precision("fp32", "asked for by name")
    assert precision.choose("bf16", CPU).dtype == torch.bfloat16


def test_flags_of_this_machine_are_read() -> None:
    assert "fpu" in precision._cpu_flags() or not precision.Path("/proc/cpuinfo").exists()


def test_textured_clips_are_seeded_and_move() -> None:
    clips = precision.textured_clips(3, frames=5, size=(30, 40), seed=1)
    assert clips.shape == (3, 5, 30, 40, 3)
    assert np.array_equal(clips, precision.textured_clips(3, frames=5, size=(30, 40), seed=1))
    assert not np.array_equal(clips, precision.textured_clips(3, frames=5, size=(30, 40), seed=2))
    assert clips[0, 0].std() > 20
    assert any(not np.array_equal(clip[0], clip[1]) for clip in clips)


def test_difference_measures() -> None:
    exact = np.array([[1.0, 0.0], [3.0, 4.0]], np.float32)
    rounded = np.array([[1.0, 0.0], [4.0, 3.0]], np.float32)
    found = precision.difference(exact, rounded, seed=9)
    assert found == {"clips": 2, "seed": 9, "cosine_min": 0.96, "max_abs": 1.0, "max_abs_of_fp32": 4.0}


def test_bf16_features_of_c3d_stay_close_to_fp32() -> None:
    net = build("c3d", weights="random:2")
    clips = precision.textured_clips(1, frames=16, size=(112, 112), seed=3)
    found = []
    for used in ("fp32", "bf16"):
        chosen = precision.Precision(used, "this test")  # type: ignore[arg-type]
        prepared = precision.prepare(net, chosen, CPU)
        found.append(precision.vectors(prepared, clips, layer="fc7", precision=chosen, on=CPU))
    assert found[0].dtype == found[1].dtype == np.float32
    assert precision.difference(*found, seed=3)["cosine_min"] >= 0.9995
    assert not np.array_equal(found[0], found[1]), "bf16 was really used"
