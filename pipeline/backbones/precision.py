"""fp32 or bf16: what the hardware gains from, how a net is laid out for it, and what it costs in accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

Used = Literal["fp32", "bf16"]
BF16_FLAGS = ("amx_bf16", "avx512_bf16")  # /proc/cpuinfo; without one of them bf16 is emulated, and slow


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format a net runs in, and the reason."""

    used: Used
    why: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.used == "bf16" else torch.float32


def device() -> torch.device:
    """CUDA where there is a GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose(asked: Literal["auto", "fp32", "bf16"], on: torch.device) -> Precision:
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


def prepare(net: Any, precision: Precision, on: torch.device) -> Any:
    """Move a net to a device, its convolutions channels last and its parameters in the precision; in place."""
    if on.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    return net.to(device=on, dtype=precision.dtype, memory_format=torch.channels_last_3d)


@torch.inference_mode()
def vectors(net: Any, clips: np.ndarray, *, layer: str, precision: Precision, on: torch.device) -> np.ndarray:
    """(N, D) float32 features of fitted clips (N, T, H, W, 3) uint8 RGB."""
    x = net.normalise(torch.from_numpy(clips).to(on)).to(precision.dtype)  # N×C×T×H×W
    return net.features(x, layer=layer).float().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Difference:
    """What a precision changed against fp32, over `clips` seeded textured clips."""

    clips: int
    seed: int
    cosine_min: float
    max_abs: float
    max_abs_of_fp32: float  # the scale that max_abs is to be read against


def difference(exact: np.ndarray, rounded: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Compare (N, D) features; rounded to six digits, for the card."""
    a, b = torch.from_numpy(exact).double(), torch.from_numpy(rounded).double()
    found = Difference(
        clips=len(exact),
        seed=seed,
        cosine_min=round(F.cosine_similarity(a, b).min().item(), 6),
        max_abs=float(f"{(a - b).abs().max().item():.6g}"),
        max_abs_of_fp32=float(f"{a.abs().max().item():.6g}"),
    )
    return asdict(found)


def textured_clips(num_clips: int, *, frames: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """(N, T, H, W, 3) uint8: coloured noise at four scales, drifting with a velocity of its own in each clip."""
    generator = np.random.default_rng(seed)
    height, width = size
    clips = np.empty((num_clips, frames, height, width, 3), np.uint8)
    for clip in clips:
        picture = np.full((height, width, 3), 128.0)
        for scale in (1, 4, 16, 64):
            cells = generator.normal(0, 30, (-(-height // scale), -(-width // scale), 3))
            picture += np.kron(cells, np.ones((scale, scale, 1)))[:height, :width]
        picture = picture.clip(0, 255).astype(np.uint8)
        down, right = generator.integers(-3, 4, size=2)  # px per frame
        for t in range(frames):
            clip[t] = np.roll(picture, (t * down, t * right), axis=(0, 1))
    return clips
