"""What a precision costs a net, measured before it is used: seeded clips in float32 and in the precision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.backbones.engine import Engine
from pipeline.backbones.network import Network
from pipeline.backbones.precision import Precision, choose
from pipeline.backbones.spec import BackboneSpec

CLIPS = 4
SEED = 0
SIDE_PX = 224  # where a recipe crops nothing
COSINE_MIN = 0.9995  # of pooled features; under it `auto` stays with fp32


@dataclass(frozen=True, slots=True)
class Difference:
    """What a precision changed against fp32, over `clips` seeded textured clips."""

    clips: int
    seed: int
    cosine_min: float
    max_abs: float
    max_abs_of_fp32: float  # the scale that max_abs is to be read against


def measured(
    net: Network,
    *,
    asked: Literal["auto", "fp32", "bf16", "fp16"],
    layer: str,
    frames: int,
    on: torch.device,
) -> tuple[Precision, dict[str, Any]]:
    """The precision to use and what it costs, as plain values for the card. The net is used up: rounded.

    `auto` takes the fast one only where every clip's pooled features keep a cosine of COSINE_MIN to those in fp32.
    """
    clips = probe_clips(net.spec, frames=frames)
    exact_in = Precision("fp32", "the reference")

    def pooled(precision: Precision) -> np.ndarray:
        return np.stack(list(Engine(net, layer=layer, precision=precision, on=on, batch_size=CLIPS).run(clips)))

    chosen = choose(asked, on)
    exact = pooled(exact_in)
    found = difference(exact, pooled(chosen) if chosen.used != "fp32" else exact)
    if asked == "auto" and not found.cosine_min >= COSINE_MIN:
        why = f"{chosen.used} gives these weights a cosine of {found.cosine_min} to fp32, under {COSINE_MIN}"
        chosen, found = Precision("fp32", why), difference(exact, exact)
    return chosen, asdict(found)


def difference(exact: np.ndarray, rounded: np.ndarray) -> Difference:
    """Compare (N, D) features; rounded to six digits, for the card."""
    a, b = torch.from_numpy(exact).double(), torch.from_numpy(rounded).double()
    return Difference(
        clips=len(exact),
        seed=SEED,
        cosine_min=round(F.cosine_similarity(a, b).min().item(), 6),
        max_abs=float(f"{(a - b).abs().max().item():.6g}"),
        max_abs_of_fp32=float(f"{a.abs().max().item():.6g}"),
    )


def probe_clips(spec: BackboneSpec, *, frames: int) -> np.ndarray:
    """(N, T, h, w, C): what the net takes; uint8 RGB, or float32 flow in px."""
    size = spec.preprocessing.crop or spec.size or (SIDE_PX, SIDE_PX)
    clips = textured_clips(CLIPS, frames=frames, size=size, seed=SEED)
    if spec.modality == "rgb":
        return clips
    assert spec.preprocessing.bound_px is not None
    return (clips[..., :2].astype(np.float32) / 127.5 - 1) * spec.preprocessing.bound_px


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
