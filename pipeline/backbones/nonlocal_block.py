"""The non-local block (Wang et al. 2018, "Non-local Neural Networks"): every place looks at all places of the clip.

N clips, C channels, d = C/2, P = T·H·W places, Q = T·⌊H/2⌋·⌊W/2⌋ places after pooling.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.conv_bn import ConvBN

# How a place p weighs a place q. Published nets differ in it, and in where φ and g are pooled:
#   scaled_softmax   softmax(θₚᵀφ_q / √d)   φ and g of the pooled map     the paper's code, SlowFast, PyTorchVideo
#   softmax          softmax(θₚᵀφ_q)        φ and g pooled after them     mmaction2, embedded_gaussian
#   dot_product      θₚᵀφ_q / Q             φ and g pooled after them     mmaction2, dot_product
#   gaussian         softmax(xₚᵀx_q)        x and g pooled                mmaction2, gaussian: without θ and φ
Affinity = Literal["scaled_softmax", "softmax", "dot_product", "gaussian"]


class NonLocal(nn.Module):
    """x + BN(out(weighted mean of g)); the identity as long as BN's weight and bias are 0, as a new block's are."""

    def __init__(self, num_in: int, *, affinity: Affinity) -> None:
        super().__init__()
        num_inner = num_in // 2
        self._affinity = affinity
        if affinity != "gaussian":
            self.theta = nn.Conv3d(num_in, num_inner, kernel_size=1)
            self.phi = nn.Conv3d(num_in, num_inner, kernel_size=1)
        self.g = nn.Conv3d(num_in, num_inner, kernel_size=1)
        self.out = ConvBN(num_inner, num_in, kernel=1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×T×H×W -> N×C×T×H×W. H and W are 2 or more."""
        theta, phi, g = self._embedded(x)  # N×P×d, N×Q×d, N×Q×d
        if self._affinity == "dot_product":
            y = theta @ (phi.mT @ g / g.shape[1])  # N×P×d; (θφᵀ)g in the order that needs no P×Q matrix
        else:
            scale = theta.shape[2] ** -0.5 if self._affinity == "scaled_softmax" else 1.0
            y = F.scaled_dot_product_attention(theta, phi, g, scale=scale)  # N×P×d
        y = y.mT.reshape(len(x), -1, *x.shape[2:])  # N×d×T×H×W
        return self.out(y).add_(x)  # N×C×T×H×W

    def _embedded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N×P×d of θ, N×Q×d of φ and g; without θ and φ, x stands for both, and d is C."""
        if self._affinity == "scaled_softmax":
            small = _pool(x)
            return _places(self.theta(x)), _places(self.phi(small)), _places(self.g(small))
        theta, phi = (x, x) if self._affinity == "gaussian" else (self.theta(x), self.phi(x))
        return _places(theta), _places(_pool(phi)), _places(_pool(self.g(x)))


def _pool(x: Tensor) -> Tensor:
    """N×C×T×H×W -> N×C×T×⌊H/2⌋×⌊W/2⌋"""
    return F.max_pool3d(x, (1, 2, 2))


def _places(x: Tensor) -> Tensor:
    """N×C×T×H×W -> N×THW×C"""
    return x.flatten(2).mT
