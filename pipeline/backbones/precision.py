"""The number format a net runs in: what the hardware gains from, and how a net is laid out for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.backbones.conv_bn import fold_bn
from pipeline.backbones.network import Network

Used = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Used, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the axes of a kernel
BF16_FLAGS = ("amx_bf16", "avx512_bf16")  # /proc/cpuinfo; without one of them bf16 is emulated, and slow


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format a net runs in, and the reason."""

    used: Used
    why: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.used]


def device() -> torch.device:
    """CUDA where there is a GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_fp32(on: torch.device) -> None:
    """Let fp32 mean fp32 on a GPU, whose convolutions would round to TF32 by default."""
    if on.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


def choose(asked: Literal["auto", "fp32", "bf16", "fp16"], on: torch.device) -> Precision:
    """The precision to use on a device: bf16 where its hardware multiplies bf16, unless one is asked for by name."""
    if asked != "auto":
        return Precision(asked, "asked for by name")
    if on.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", "this GPU multiplies bf16")
        return Precision("fp32", "this GPU has no bf16")
    flags = _cpu_flags()
    found = [flag for flag in BF16_FLAGS if flag in flags]
    if found:
        return Precision("bf16", f"this CPU has {' and '.join(found)}")
    return Precision("fp32", f"this CPU has neither {' nor '.join(BF16_FLAGS)}")


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return frozenset()
    line = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def prepare(net: Network, precision: Precision, on: torch.device) -> Network:
    """Make a net ready for inference, in place: batch norms folded in float32, then the device, the precision, and
    convolutions channels last."""
    if on.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    keep_fp32(on)
    fold_bn(net)
    net.to(device=on, dtype=precision.dtype)
    for value in net.parameters():
        if value.ndim in CHANNELS_LAST:
            value.data = value.data.contiguous(memory_format=CHANNELS_LAST[value.ndim])
    return net
