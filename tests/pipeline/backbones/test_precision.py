"""Which precision is chosen, and how a net is made ready for it."""

from __future__ import annotations

import pytest
import torch
from small_backbones import small

from pipeline.backbones import precision

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
    assert precision.choose("fp16", CPU).dtype == torch.float16


def test_flags_of_this_machine_are_read() -> None:
    assert "fpu" in precision._cpu_flags() or not precision.Path("/proc/cpuinfo").exists()


def test_prepare_folds_and_casts_and_changes_nothing_else() -> None:
    net, x = small(), torch.rand(2, 3, 4, 16, 16)
    exact = net(x)
    ready = precision.prepare(net, precision.Precision("fp32", "this test"), CPU)
    assert all(not isinstance(module, torch.nn.BatchNorm3d) for module in ready.modules())
    torch.testing.assert_close(ready(x), exact, atol=1e-5, rtol=1e-5)
    half = precision.prepare(ready, precision.Precision("bf16", "this test"), CPU)
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}
    assert half.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
