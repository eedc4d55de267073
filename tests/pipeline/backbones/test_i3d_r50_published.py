"""I3D-R50 gives the numbers of PyTorchVideo's and mmaction2's own code; see tests/golden/backbones/make_i3d_r50.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from goldens import Golden

from pipeline.backbones import build
from pipeline.backbones.network import Network

BOUND = 1e-4
OPTIONS = {"mmaction2_i3d_r50_nl_embedded_gaussian": {"affinity": "softmax"}}  # what keys can't tell
WRAPPERS = {"pytorchvideo_i3d_r50": "model_state"}  # under what the published file nests its weights
EXPECTED = {  # golden -> the format as recognised, the options
    "pytorchvideo_i3d_r50": ("PyTorchVideo I3D_8x8_R50", {"variant": "8x8", "non_local": "none"}),
    "mmaction2_i3d_r50": ("mmaction2 recognizer", {"variant": "32x2", "non_local": "none"}),
    "mmaction2_i3d_r50_nl_dot_product": (
        "mmaction2 recognizer, non-local",
        {"variant": "32x2", "non_local": "embedded", "affinity": "dot_product"},
    ),
    "mmaction2_i3d_r50_nl_embedded_gaussian": (
        "mmaction2 recognizer, non-local",
        {"variant": "32x2", "non_local": "embedded", "affinity": "softmax"},
    ),
    "mmaction2_i3d_r50_nl_gaussian": (
        "mmaction2 recognizer, gaussian non-local",
        {"variant": "32x2", "non_local": "gaussian"},
    ),
}

Built = tuple[str, Golden, Network]


@pytest.fixture(scope="module", params=list(EXPECTED))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """A published net's state dict, written and read as a checkpoint."""
    golden = Golden(request.param)
    path: Path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save({WRAPPERS.get(request.param, "state_dict"): golden.state()}, path)
    net = build("i3d_r50", weights=str(path), options=OPTIONS.get(request.param))
    path.unlink()
    with torch.inference_mode():
        yield request.param, golden, net


def test_recognised_with_every_key_accounted_for(built: Built):
    name, golden, net = built
    assert (net.weights.format, net.options) == EXPECTED[name]
    assert net.weights.unused == ()
    counters = sum(key.endswith("num_batches_tracked") for key in golden.keys)
    assert net.weights.ignored == {r".*\.num_batches_tracked": counters}


@pytest.mark.parametrize("case", ["published size", "16x112"])
def test_published_numbers(built: Built, case: str):
    check(built, next(iter(built[1].cases)) if case == "published size" else case)


# Without non-local blocks the nets differ in strides and in how they pool; of the blocks' kinds, which two sizes hold
# above, one is taken to where most positions meet.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "place"),
    [
        ("pytorchvideo_i3d_r50", 1),
        ("pytorchvideo_i3d_r50", 3),
        ("pytorchvideo_i3d_r50", 4),
        ("mmaction2_i3d_r50", 1),
        ("mmaction2_i3d_r50_nl_embedded_gaussian", 4),
    ],
    indirect=["built"],
)
def test_published_numbers_of_large_clips(built: Built, place: int):
    """8x224 or 32x256, 64x224, 79x224."""
    check(built, list(built[1].cases)[place])


def check(built: Built, case: str) -> None:
    _, golden, net = built
    x = golden.clip(case)
    pooled = net.features(x, layer="avgpool")
    assert (pooled - golden.published[f"{case}/avgpool"]).abs().max() <= BOUND
    assert (dict(net.top(pooled))["logits"] - golden.published[f"{case}/logits"]).abs().max() <= BOUND


def test_forward_gives_the_logits(built: Built):
    _, golden, net = built
    assert (net(golden.clip("16x112")[:1]) - golden.published["16x112/logits"][:1]).abs().max() <= BOUND


def test_kinds_of_non_local_blocks_differ_by_more_than_the_bound():
    """Keys don't tell dot product from embedded gaussian, so their numbers must tell the wrong choice."""
    dot, embedded = (Golden(f"mmaction2_i3d_r50_nl_{kind}") for kind in ("dot_product", "embedded_gaussian"))
    assert dot.keys == embedded.keys
    difference = dot.published["32x224/logits"] - embedded.published["32x224/logits"]
    assert difference.abs().max() > 1000 * BOUND
