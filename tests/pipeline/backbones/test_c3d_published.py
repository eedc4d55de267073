"""C3D gives the numbers of DavideA's and mmaction2's own code; see tests/golden/backbones/make_c3d.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from goldens import Golden

from pipeline.backbones import build
from pipeline.backbones.network import Network

BOUND = 1e-4
FORMATS = {"davidea_c3d": "DavideA c3d.pickle", "mmaction2_c3d": "mmaction2 recognizer"}


@pytest.fixture(scope="module", params=list(FORMATS))
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    path: Path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save(Golden(request.param).state(), path)
    yield request.param, path
    path.unlink()


@pytest.fixture(scope="module", params=["ceil", "symmetric"])
def built(request: pytest.FixtureRequest, published: tuple[str, Path]) -> tuple[str, str, Network]:
    name, path = published
    return name, request.param, build("c3d", weights=str(path), options={"pool5": request.param})


@torch.inference_mode()
def test_published_numbers(built: tuple[str, str, Network]):
    """`symmetric` is the published PyTorch code as it is; `ceil` the same code with Caffe's pool5."""
    name, pool5, net = built
    golden = Golden(name)
    assert net.weights.format == FORMATS[name]
    assert net.weights.unused == ()
    x = net.features(golden.clip(pool5), layer="pool5")
    found = {"pool5": x, **dict(net.top(x))}
    for layer in ("pool5", "fc6", "fc7", "fc8"):
        assert (found[layer] - golden.published[f"{pool5}/{layer}"]).abs().max() <= BOUND, layer


@torch.inference_mode()
def test_the_other_pool5_is_seen(built: tuple[str, str, Network]):
    name, pool5, net = built
    golden = Golden(name)
    other = "symmetric" if pool5 == "ceil" else "ceil"
    logits = net(golden.clip(other)[:1])
    assert (logits - golden.published[f"{other}/fc8"][:1]).abs().max() > 100 * BOUND


def test_class_count_follows_the_file(built: tuple[str, str, Network]):
    assert built[2].spec.num_classes == {"davidea_c3d": 487, "mmaction2_c3d": 101}[built[0]]


def test_mmaction2_files_name_the_option(built: tuple[str, str, Network]):
    name, _, net = built
    notes = " ".join(net.weights.notes)
    assert ("pool5: symmetric" in notes) == (name == "mmaction2_c3d")
