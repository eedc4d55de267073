"""Two-stream is the plain sum of both nets' logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.backbones.network import Network
from pipeline.backbones.preprocess import Preprocessing
from pipeline.backbones.spec import BackboneSpec
from pipeline.backbones.two_stream import TwoStream
from schemas.errors import UsageError


class Tiny(Network):
    """Logits of the mean colour, or of the mean flow."""

    def __init__(self, modality: str, num_classes: int | None) -> None:
        super().__init__()
        channels = 3 if modality == "rgb" else 2
        layers = {"input": channels} | ({"fc": num_classes} if num_classes else {})
        self.fc = nn.Linear(channels, num_classes) if num_classes else None
        self.spec = BackboneSpec(
            name=f"tiny_{modality}",
            modality=modality,
            preprocessing=Preprocessing(recipe="none", modality=modality, fps=None),
            frames=1,
            min_frames=1,
            max_frames=None,
            size=None,
            layers=layers,
            map_layers=("input",),
            default_layer="input",
            classifier="fc",
            num_classes=num_classes,
        )

    def trunk(self, x: Tensor):
        yield "input", x

    def top(self, x: Tensor):
        yield "fc", self.fc(x)


def test_the_sum_of_logits() -> None:
    torch.manual_seed(0)
    rgb, flow = Tiny("rgb", 5), Tiny("flow", 5)
    clip, vectors = torch.randn(2, 3, 4, 6, 6), torch.randn(2, 2, 3, 5, 5)
    found = TwoStream(rgb, flow)(clip, vectors)
    expected = rgb.fc(clip.mean((2, 3, 4))) + flow.fc(vectors.mean((2, 3, 4)))
    assert found.shape == (2, 5)
    torch.testing.assert_close(found, expected)


def test_its_state_holds_both_nets() -> None:
    keys = TwoStream(Tiny("rgb", 5), Tiny("flow", 5)).state_dict().keys()
    assert list(keys) == ["rgb.fc.weight", "rgb.fc.bias", "flow.fc.weight", "flow.fc.bias"]


@pytest.mark.parametrize(
    ("rgb", "flow", "sentence"),
    [
        (("rgb", 5), ("rgb", 5), r"the flow net takes rgb \(tiny_rgb\)"),
        (("flow", 5), ("rgb", 5), r"the rgb net takes flow \(tiny_flow\)"),
        (("rgb", 5), ("flow", 4), "tiny_rgb has 5 classes and tiny_flow 4"),
        (("rgb", None), ("flow", 4), "tiny_rgb have no classifier"),
    ],
)
def test_nets_that_do_not_go_together(rgb: tuple, flow: tuple, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        TwoStream(Tiny(*rgb), Tiny(*flow))
