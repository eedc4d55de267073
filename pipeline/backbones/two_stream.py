"""Two-stream: what a clip looks like and how it moves, two nets whose logits are added (Carreira and Zisserman 2017).

DeepMind's evaluate_sample.py adds them as they are, without weights: on its cricket clip 25.8566 of RGB and 15.9570 of
flow are 41.8137.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.backbones.network import Network
from schemas.errors import UsageError


class TwoStream(nn.Module):
    """An RGB net and a flow net of the same classes, in this order."""

    def __init__(self, rgb: Network, flow: Network) -> None:
        """Raises UsageError for nets of the wrong modality, without classifiers, or of different numbers of classes."""
        super().__init__()
        for net, modality in ((rgb, "rgb"), (flow, "flow")):
            if net.spec.modality != modality:
                raise UsageError(f"two-stream: the {modality} net takes {net.spec.modality} ({net.spec.name})")
            if net.spec.num_classes is None:
                raise UsageError(f"two-stream: the weights of {net.spec.name} have no classifier; use some that do")
        if rgb.spec.num_classes != flow.spec.num_classes:
            raise UsageError(
                f"two-stream: {rgb.spec.name} has {rgb.spec.num_classes} classes and {flow.spec.name} "
                f"{flow.spec.num_classes}; use weights of the same classes"
            )
        self.rgb = rgb
        self.flow = flow

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Logits (N, K) of the same clips, N×3×T×H×W and N×2×T'×H'×W', each normalised by its net's own recipe."""
        return self.rgb(rgb) + self.flow(flow)
