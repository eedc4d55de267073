"""The non-local block against PyTorchVideo's and against its formula written out."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from goldens import Golden
from torch import Tensor

from pipeline.backbones.nonlocal_block import Affinity, NonLocal


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def block(num_in: int, affinity: Affinity, *, seed: int = 0) -> NonLocal:
    net = NonLocal(num_in, affinity=affinity).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "running_var" in name else -0.5))
    return net


@pytest.mark.parametrize("case", ["3x7x10", "4x8x8"])
def test_scaled_softmax_is_pytorchvideos_block(case: str):
    golden = Golden("pytorchvideo_nonlocal")
    theirs = golden.state()
    names = {"conv_theta": "theta", "conv_phi": "phi", "conv_g": "g", "conv_out": "out.conv", "norm": "out.bn"}
    renamed = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in theirs.items()}
    # its last convolution has a bias, which the batch norm after it takes up
    renamed["out.bn.running_mean"] = renamed["out.bn.running_mean"] - renamed.pop("out.conv.bias")
    net = NonLocal(32, affinity="scaled_softmax").eval()
    net.load_state_dict(renamed)
    difference = net(golden.clip(case)) - golden.published[f"{case}/out"]
    assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize("affinity", get_args(Affinity))
def test_formula_written_out_place_by_place(affinity: Affinity):
    net = block(6, affinity)
    x = torch.randn(2, 6, 2, 5, 4, generator=torch.Generator().manual_seed(1))

    def embedded(name: str, at: Tensor) -> Tensor:
        layer = getattr(net, name)
        return torch.einsum("oc,ncthw->nothw", layer.weight[:, :, 0, 0, 0], at) + layer.bias.view(1, -1, 1, 1, 1)

    def pooled(at: Tensor) -> Tensor:
        return F.max_pool3d(at, (1, 2, 2))

    if affinity == "scaled_softmax":
        theta, phi, g = embedded("theta", x), embedded("phi", pooled(x)), embedded("g", pooled(x))
    elif affinity == "gaussian":
        theta, phi, g = x, pooled(x), pooled(embedded("g", x))
    else:
        theta, phi, g = embedded("theta", x), pooled(embedded("phi", x)), pooled(embedded("g", x))
    scores = torch.einsum("ncp,ncq->npq", theta.flatten(2), phi.flatten(2))  # 40 places, 2·2·2 pooled ones
    assert scores.shape == (2, 40, 8)
    weights = {
        "scaled_softmax": (scores / 3**0.5).softmax(2),
        "softmax": scores.softmax(2),
        "dot_product": scores / 8,
        "gaussian": scores.softmax(2),
    }[affinity]
    y = torch.einsum("npq,ncq->ncp", weights, g.flatten(2)).reshape(2, 3, 2, 5, 4)
    torch.testing.assert_close(net(x), x + net.out(y), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("affinity", get_args(Affinity))
def test_identity_while_the_norms_weight_is_zero(affinity: Affinity):
    net = block(8, affinity)
    net.out.bn.weight.zero_()
    net.out.bn.bias.zero_()
    x = torch.randn(1, 8, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(x), x)
    net.out.bn.weight.fill_(1)
    assert not torch.allclose(net(x), x, atol=0.01)


def test_input_is_left_as_it_was():
    net, x = block(8, "dot_product"), torch.ones(1, 8, 2, 4, 4)
    net(x)
    assert torch.equal(x, torch.ones(1, 8, 2, 4, 4))
