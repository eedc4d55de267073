"""What all backbones are to their users: a net with named layers, as pooled vectors or as maps.

N clips, C channels, T frames, H×W pixels, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from pipeline.backbones.checkpoints import WeightsReport
from pipeline.backbones.identity import Option
from pipeline.backbones.spec import BackboneSpec
from schemas.errors import UsageError


class Network(nn.Module):
    """A backbone. Its file writes `trunk` and `top`, and sets `spec` and `options`; loading sets `weights`."""

    spec: BackboneSpec
    options: dict[str, Option]  # those that belong to the weights; `save` keeps them
    weights: WeightsReport

    def trunk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(layer, N×C×T×H×W) in order, each computed when it is asked for. N×C×T×H×W comes in."""
        raise NotImplementedError

    def top(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(layer, N×D) in order, each computed when it is asked for. What `bridge` gives comes in."""
        raise NotImplementedError

    def bridge(self, blob: Tensor) -> Tensor:
        """N×D of the trunk's last map, for the top: its mean over T, H and W, unless a net has another rule."""
        return self.pooled(self.spec.map_layers[-1], blob)

    def pooled(self, layer: str, blob: Tensor) -> Tensor:
        """N×D of a map N×C×T×H×W: its mean over T, H and W, taken in float32."""
        return blob.float().mean((2, 3, 4)).to(blob.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of normalised clips (N, C, T, H, W). Raises ReelmillError where there is no classifier."""
        return self.features(x, layer=self.spec.classifier)

    def features(self, x: Tensor, *, layer: str | None = None, dense: bool = False) -> Tensor:
        """(N, D) of a layer, or its map (N, C, T, H, W) with `dense`; nothing beyond the layer is computed.

        Raises UsageError for a layer that the net has not, and for clips that it does not take.
        """
        # in training a batch norm takes its statistics from the batch, which must not be parted then
        parts = (x,) if self.training else x.split(clips_at_once(len(x), x.device))
        return self.features_of(parts, layer=layer, dense=dense)

    def features_of(self, parts: Iterable[Tensor], *, layer: str | None = None, dense: bool = False) -> Tensor:
        """The same of clips that come in parts, each made when it is asked for. The top sees all of them at once."""
        layer = layer or self.spec.default_layer
        self.spec.require_layer(layer, dense=dense)
        if layer in self.spec.map_layers:
            maps = (_named(self._trunk_of(part), layer) for part in parts)
            return torch.cat([blob if dense else self.pooled(layer, blob) for blob in maps])
        last = self.spec.map_layers[-1]
        vectors = torch.cat([self.bridge(_named(self._trunk_of(part), last)) for part in parts])  # N×D
        return _named(self.top(vectors), layer)

    def _trunk_of(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        self._check(x)
        return self.trunk(x)

    def _check(self, x: Tensor) -> None:
        channels = 3 if self.spec.modality == "rgb" else 2
        if x.ndim != 5 or x.shape[1] != channels:
            raise UsageError(
                f"{self.spec.name} takes {self.spec.modality} clips (N, {channels}, T, H, W), got {tuple(x.shape)}"
            )
        self.spec.require_input(x.shape[2], (x.shape[3], x.shape[4]))


def clips_at_once(num_clips: int, on: torch.device) -> int:
    """How many clips should pass a trunk together.

    On a CPU few: one clip's first map alone is 26 MB in C3D and bf16, and larger ones cost more in page faults than
    they gain.
    """
    return max(1, torch.get_num_threads() // 8) if on.type == "cpu" else max(1, num_clips)


def _named(blobs: Iterator[tuple[str, Tensor]], layer: str) -> Tensor:
    return next(blob for name, blob in blobs if name == layer)
