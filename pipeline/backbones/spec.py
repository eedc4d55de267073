"""What a backbone expects of a clip and what it gives: the facts that its users read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.errors import ReelmillError, UsageError


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """`net.spec`. Sizes are (height, width) in pixels; layers map to the length of their pooled vector."""

    name: str
    frames: int  # T, exactly
    size: tuple[int, int]  # of the network's input
    resize: tuple[int, int]  # frames of any other size are brought to this one, and then cropped
    crop_at: tuple[int, int]  # (top, left) of the crop inside `resize`
    colour: Literal["RGB", "BGR"]  # order of the C axis of the normalised input
    value_range: tuple[float, float]  # of a pixel before mean and std
    mean: tuple[float, float, float]  # in the order of `colour`; of a mean volume, its average
    mean_source: str
    std: tuple[float, float, float]
    layers: Mapping[str, int]  # layer -> D
    default_layer: str
    classifier: str  # the layer that gives logits
    num_classes: int | None  # None: the checkpoint has no classifier, and only features can be computed

    def require_layer(self, layer: str) -> int:
        """D of a layer. Raises UsageError for one that there is not, ReelmillError for a missing classifier's."""
        if layer in self.layers:
            return self.layers[layer]
        if layer == self.classifier:
            raise ReelmillError(
                f"{self.name}: these weights have no classifier ({layer}), so they give features but no logits; "
                f"use weights that include it"
            )
        raise UsageError(f"layer: {self.name} has no {layer!r}; it has {', '.join(self.layers)}")

    def words(self) -> str:
        """The preprocessing in one sentence, for the card."""
        (height, width), (top, left) = self.size, self.crop_at
        return (
            f"{self.frames} RGB frames; {self.resize[0]}×{self.resize[1]} (height×width) frames are cropped to "
            f"{height}×{width} at (top {top}, left {left}); {height}×{width} frames are used as they are; any other "
            f"size is first resized to {self.resize[0]}×{self.resize[1]}, bilinear without antialias, aspect ignored; "
            f"then {self.colour} order, values {self.value_range[0]:g}–{self.value_range[1]:g}, minus the mean "
            f"{_numbers(self.mean)} ({self.mean_source}), divided by {_numbers(self.std)}"
        )


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
