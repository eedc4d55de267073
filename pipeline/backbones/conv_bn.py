"""A 3D convolution with batch norm and ReLU, and how the norm is folded into it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.backbones.same_padding import Triple, pad_same, triple

Padding = Literal["same"] | Triple


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and ReLU unless it is switched off.

    `padding` is "same", TensorFlow's rule (see `same_padding`), or a number of zeros for each side of T, H and W.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel: int | Triple,
        *,
        stride: int | Triple = 1,
        padding: Padding = "same",
        eps: float = 1e-5,
        relu: bool = True,
    ) -> None:
        super().__init__()
        kernel, stride = triple(kernel), triple(stride)
        # with stride 1 and odd kernels SAME is the same on both sides, whatever the size
        is_plain = padding == "same" and stride == (1, 1, 1) and all(k % 2 for k in kernel)
        fixed: Triple = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2) if is_plain else (0, 0, 0)
        self._pads_by_size = padding == "same" and not is_plain
        self.conv = nn.Conv3d(
            num_in, num_out, kernel, stride=stride, padding=fixed if padding == "same" else padding, bias=False
        )
        self.bn: nn.Module = nn.BatchNorm3d(num_out, eps=eps)
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        if self._pads_by_size:
            x = pad_same(x, self.conv.kernel_size, self.conv.stride)  # type: ignore[arg-type]
        x = self.bn(self.conv(x))
        return x.relu_() if self._relu else x

    def fold(self) -> None:
        """Put the batch norm into the convolution, which gets a bias; for inference, in float32."""
        if isinstance(self.bn, nn.BatchNorm3d):
            bn = self.bn
            assert bn.running_mean is not None
            assert bn.running_var is not None
            self.conv.weight, self.conv.bias = fuse_conv_bn_weights(
                self.conv.weight, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            self.bn = nn.Identity()


def fold_bn(net: nn.Module) -> None:
    """Fold every `ConvBN` of a net in eval mode: the same function, with one pass over memory less a layer."""
    for module in net.modules():
        if isinstance(module, ConvBN):
            module.fold()
