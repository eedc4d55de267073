"""What a backbone expects of a clip and what it gives: the facts that its users read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.backbones.preprocess import Preprocessing
from schemas.errors import ReelmillError, UsageError

Modality = Literal["rgb", "flow"]


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """`net.spec`. Layers map to the length of their pooled vector, in the order in which they are computed."""

    name: str
    modality: Modality
    preprocessing: Preprocessing  # size, colour order, range, mean and std of the input
    frames: int  # T of the published model
    min_frames: int  # fewer don't reach the last layer
    max_frames: int | None  # None: any length
    size: tuple[int, int] | None  # (height, width) that the input must have; None: any
    layers: Mapping[str, int]  # layer -> D
    map_layers: tuple[
        str, ...
    ]  # those of `layers` that are N×C×T×H×W maps before they are pooled; C = D unless flattened
    default_layer: str
    classifier: str  # the layer that gives logits
    num_classes: int | None  # None: the checkpoint has no classifier, and only features can be computed

    def require_layer(self, layer: str, *, dense: bool = False) -> int:
        """D of a layer. Raises UsageError for one that there is not, ReelmillError for a missing classifier's."""
        if layer == self.classifier and layer not in self.layers:
            raise ReelmillError(
                f"{self.name}: these weights have no classifier ({layer}), so they give features but no logits; "
                f"use weights that include it"
            )
        if layer not in self.layers:
            raise UsageError(f"layer: {self.name} has no {layer!r}; it has {', '.join(self.layers)}")
        if dense and layer not in self.map_layers:
            raise UsageError(
                f"layer: {self.name}'s {layer} is a vector, without a map of places; dense features have "
                f"{', '.join(self.map_layers)}"
            )
        return self.layers[layer]

    def require_input(self, frames: int, size: tuple[int, int] | None = None) -> None:
        """Raises UsageError unless the net takes clips of so many frames (and of this height and width)."""
        if frames < self.min_frames or (self.max_frames is not None and frames > self.max_frames):
            up_to = "or more" if self.max_frames is None else f"to {self.max_frames}"
            takes = f"{self.min_frames}" if self.min_frames == self.max_frames else f"{self.min_frames} {up_to}"
            raise UsageError(f"{self.name} takes clips of {takes} frames, got {frames}")
        if size is not None and self.size is not None and size != self.size:
            raise UsageError(
                f"{self.name} takes frames of {self.size[0]}×{self.size[1]} (height×width), got {size[0]}×{size[1]}"
            )
