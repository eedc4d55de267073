"""Batch norm over the batch of all workers, so that several compute what one alone would.

torch's own SyncBatchNorm knows GPUs only, and counts the item that merely keeps a worker busy when fewer are left than
there are workers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SharedBatchNorm(_BatchNorm):
    """A batch norm that takes its statistics from the items of all workers; in eval mode as any other."""

    counts = True  # whether this worker's items are of the batch

    @classmethod
    def of(cls, norm: _BatchNorm) -> SharedBatchNorm:
        """The same, with the very parameters and buffers of `norm`."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta")
        shared._parameters, shared._buffers = norm._parameters, norm._buffers
        return shared.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, …)."""
        if not self.training:
            return super().forward(x)
        over = [dim for dim in range(x.ndim) if dim != 1]
        column = (1, -1, *(1,) * (x.ndim - 2))
        values, is_counted = x.to(torch.promote_types(x.dtype, torch.float32)), float(self.counts)
        count = float(_sum(values.new_tensor([is_counted * x.numel() / x.shape[1]], dtype=torch.float64)))
        mean = _sum(is_counted * values.sum(over)) / count  # (C,)
        centred = values - mean.view(column)
        variance = _sum(is_counted * centred.square().sum(over)) / count  # (C,)
        self._remember(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        centred = centred * (variance + self.eps).rsqrt().view(column)
        if self.affine:
            centred = centred * self.weight.view(column) + self.bias.view(column)
        return centred.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Of any number of dimensions: what it stands for has checked that."""


def share_batch_norms(module: nn.Module) -> None:
    """Put a SharedBatchNorm in the place of every batch norm inside a module."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, SharedBatchNorm.of(child))
        else:
            share_batch_norms(child)


def count_items(module: nn.Module, weights: Tensor) -> None:
    """Tell the batch norms whether the items of the next batch count: those of weight 0 (N,) do not."""
    for child in module.modules():
        if isinstance(child, SharedBatchNorm):
            child.counts = bool(weights.any())


class _Sum(torch.autograd.Function):
    """The sum over all workers; what each of them makes of it flows back to every one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
