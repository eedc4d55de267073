"""One-stage, anchor-free temporal localization on several scales (Zhang, Wu and Li, "ActionFormer", ECCV 2022).

Two convolutions take the features to C channels; transformer blocks with attention to a window of neighbours follow,
two at the features' rate and one more per level that halves the rate. On every level the same two small towers say, for
each point, which classes are going on and how far away start and end are (anchor_free.py: who answers for what). As in
the paper, class scores are sigmoids under a focal loss, so background is where no class fires, and distances are
learned by DIoU.

Unlike there: the loss of a video is normalised by its own points with a class, not by a running mean over batches; a
softplus makes distances positive, so that none stops learning; dropout, by the numbers handed in, takes whole channels:
of what goes into the first block, which is what keeps it from learning a small training set by heart, and of each
block's two branches.

Legend: N videos, T steps, D feature dimensions, C channels, H attention heads, W window, P points, K classes.
Inside, sequences are (N, T, C) under masks (N, T, 1) of 1.0 and 0.0. Convolutions get and leave zeros in the padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import register
from pipeline.heads.anchor_free import Points, assign, diou_loss, focal_loss, make_points
from pipeline.heads.temporal import StepDetections, StepSegments, TemporalHead
from schemas.heads import ActionFormerHead

NUM_STEM = 2  # blocks before the rate is first halved
PRIOR = 0.01  # what a class scores before anything is learned, lest the background's many points drown the rest


class Output(NamedTuple):
    """What the points of all levels say, level by level as in Points."""

    logits: Tensor  # (N, P, K)
    distance: Tensor  # (N, P, 2) to start and end, in strides, ≥ 0
    mask: Tensor  # (N, P) bool


class MaskedConv(nn.Conv1d):
    """A convolution over (N, T, C) that leaves zeros in the padding: sequences end alike with padding and without."""

    def __init__(self, dim_in: int, dim_out: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(dim_in, dim_out, 3, stride=stride, padding=1, groups=groups)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """`mask` is of what comes out."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2) * mask


class LocalAttention(nn.Module):
    """Attention of each step to the W // 2 steps on either side, and itself."""

    def __init__(self, channels: int, *, heads: int, window: int, stride: int) -> None:
        super().__init__()
        self.heads = heads
        self.side = window // 2
        self.mix = nn.ModuleList([MaskedConv(channels, channels, stride=stride, groups=channels) for _ in "qkv"])
        self.norm = nn.ModuleList([nn.LayerNorm(channels) for _ in "qkv"])
        self.project = nn.ModuleList([nn.Linear(channels, channels) for _ in "qkv"])
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` is of what comes out."""
        q, k, v = (
            project(norm(mix(x, mask))).unflatten(2, (self.heads, -1))  # (N, T, H, C / H)
            for mix, norm, project in zip(self.mix, self.norm, self.project, strict=True)
        )
        q = q / math.sqrt(q.shape[-1])
        weight = torch.stack([(q * near).sum(dim=-1) for near in self._around(k)], dim=-1)  # (N, T, H, W)
        there = torch.stack(self._around(mask), dim=-1) > 0  # (N, T, 1, W)
        weight = weight.masked_fill(~there, torch.finfo(weight.dtype).min).softmax(dim=-1)  # (N, T, H, W)
        total = torch.zeros_like(v)  # (N, T, H, C / H)
        for index, near in enumerate(self._around(v)):
            total = total + weight[..., index, None] * near
        return self.out(total.flatten(2)) * mask  # (N, T, C)

    def _around(self, x: Tensor) -> list[Tensor]:
        """W times x (N, T, ...), each shifted by one step more; zeros beyond its ends."""
        padded = F.pad(x, (0, 0) * (x.ndim - 2) + (self.side, self.side))
        return [padded[:, shift : shift + x.shape[1]] for shift in range(2 * self.side + 1)]


class Block(nn.Module):
    """A transformer block, normalised before each branch; stride 2 halves the rate, to ceil(T / 2) steps."""

    def __init__(self, channels: int, *, heads: int, window: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(channels)
        self.attention = LocalAttention(channels, heads=heads, window=window, stride=stride)
        self.feed = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor, mask: Tensor, keep: Tensor) -> Tensor:
        """`mask` is of x; `keep` (N, 2, C) are the factors that dropout puts on the two branches' channels."""
        mask_out = mask[:, :: self.stride]  # (N, T', 1)
        skip = x if self.stride == 1 else self._pool(x, mask)  # (N, T', C)
        h = self.attention(self.norm(x) * mask, mask_out)  # (N, T', C)
        x = skip + h * keep[:, None, 0]
        return x + self.feed(x) * mask_out * keep[:, None, 1]

    @staticmethod
    def _pool(x: Tensor, mask: Tensor) -> Tensor:
        """The maximum of three steps, at every second one; padding can't win."""
        h = x.masked_fill(mask == 0, -torch.inf).transpose(1, 2)  # (N, C, T)
        h = F.max_pool1d(h, 3, stride=2, padding=1).transpose(1, 2)  # (N, T', C)
        return h.masked_fill(mask[:, ::2] == 0, 0.0)


class Tower(nn.Module):
    """Two convolutions, and a third that gives the numbers of each point; one for all levels."""

    def __init__(self, channels: int, num_outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([MaskedConv(channels, channels) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        self.out = MaskedConv(channels, num_outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, mask))) * mask  # (N, T, C)
        return self.out(x, mask)  # (N, T, outputs)


class ActionFormer(TemporalHead):
    """See the top of this file."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        channels: int,
        levels: int,
        heads: int,
        window: int,
        dropout: float,
        pre_nms: int,
        min_score: float,
    ) -> None:
        super().__init__()
        self.num_classes, self.levels, self.dropout = num_classes, levels, dropout
        self.pre_nms, self.min_score = pre_nms, min_score
        self.embed = nn.ModuleList([MaskedConv(dim, channels), MaskedConv(channels, channels)])
        self.embed_norm = nn.ModuleList([nn.LayerNorm(channels) for _ in range(2)])
        strides = [1] * NUM_STEM + [2] * (levels - 1)
        self.blocks = nn.ModuleList([Block(channels, heads=heads, window=window, stride=s) for s in strides])
        self.level_norm = nn.ModuleList([nn.LayerNorm(channels) for _ in range(levels)])
        self.classify = Tower(channels, num_classes)
        self.measure = Tower(channels, 2)
        self.level_scale = nn.Parameter(torch.ones(levels))  # a stride is another time on each level
        nn.init.constant_(self.classify.out.get_parameter("bias"), -math.log((1 - PRIOR) / PRIOR))
        self.noise_shape = (1 + 2 * len(strides), channels)  # what goes into the first block, and two branches of each
        self.num_noise = math.prod(self.noise_shape) if dropout > 0 else 0

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Output:
        present = mask[:, :, None].to(x.dtype)  # (N, T, 1)
        h = torch.where(mask[:, :, None], x, 0.0)  # (N, T, D) padding may hold anything
        for conv, norm in zip(self.embed, self.embed_norm, strict=True):
            h = F.relu(norm(conv(h, present))) * present  # (N, T, C)
        keep = self._keep(h, noise)  # (N, 1 + 2 B, C) for B blocks
        h = h * keep[:, None, 0]  # (N, T, C)
        outputs = []
        for index, block in enumerate(self.blocks):
            h = block(h, present, keep[:, 1 + 2 * index : 3 + 2 * index])  # (N, T_l, C)
            present = present[:, :: block.stride]  # (N, T_l, 1)
            level = index - NUM_STEM + 1
            if level >= 0:
                normed = self.level_norm[level](h) * present  # (N, T_l, C)
                distance = F.softplus(self.measure(normed, present) * self.level_scale[level])  # (N, T_l, 2)
                outputs.append((self.classify(normed, present), distance, present[:, :, 0] > 0))
        return Output(*(torch.cat(parts, dim=1) for parts in zip(*outputs, strict=True)))

    def _keep(self, h: Tensor, noise: Tensor | None) -> Tensor:
        """The factors (N, 1 + 2 B, C) of dropout on channels: the same at all steps."""
        if noise is None or self.dropout == 0:
            return h.new_ones(len(h), *self.noise_shape)
        return (noise >= self.dropout).to(h.dtype).view(-1, *self.noise_shape) / (1 - self.dropout)

    def loss(self, output: Output, targets: Sequence[StepSegments], mask: Tensor) -> Tensor:
        """Focal loss over all points plus DIoU over those with a class, both by the number of the latter (N,)."""
        points = self._points(mask)
        pairs = [assign(points, segments, self.num_classes) for segments in targets]
        classes, distance = (torch.stack(column) for column in zip(*pairs, strict=True))  # (N, P, K), (N, P, 2)
        positive = (classes.sum(dim=-1) > 0) & output.mask  # (N, P)
        focal = focal_loss(output.logits, classes).sum(dim=-1)  # (N, P)
        diou = diou_loss(output.distance, torch.where(positive[:, :, None], distance, 1.0))  # (N, P)
        total = torch.where(output.mask, focal, 0.0) + torch.where(positive, diou, 0.0)  # (N, P)
        return total.sum(dim=1) / positive.sum(dim=1).clamp(min=1)

    def decode(self, output: Output, mask: Tensor) -> list[StepDetections]:
        """At most `pre_nms` detections of each video, of at least `min_score`.

        Of equal scores the finer level goes first, then the earlier point, then the smaller class.
        """
        points = self._points(mask)
        return [self._decode_video(points, *video) for video in zip(*output, strict=True)]

    def _decode_video(self, points: Points, logits: Tensor, distance: Tensor, mask: Tensor) -> StepDetections:
        distance = distance * points.stride[:, None]  # (P, 2) in steps
        span = torch.stack([points.step - distance[:, 0], points.step + distance[:, 1]], dim=1)  # (P, 2)
        scores = torch.sigmoid(logits)  # (P, K)
        usable = mask & (span[:, 0] < span[:, 1])  # (P,)
        point, label = (usable[:, None] & (scores >= self.min_score)).nonzero(as_tuple=True)  # (M,) each
        score, order = scores[point, label].sort(descending=True, stable=True)  # (M,)
        best = order[: self.pre_nms]
        return StepDetections(span=span[point[best]], score=score[: self.pre_nms], label=label[best])

    def _points(self, mask: Tensor) -> Points:
        return make_points(mask.shape[1], self.levels, device=mask.device)


@register("actionformer")
def build_actionformer(settings: ActionFormerHead, blocks: tuple[int, ...], num_classes: int) -> ActionFormer:
    return ActionFormer(
        sum(blocks),
        num_classes,
        channels=settings.channels,
        levels=settings.levels,
        heads=settings.heads,
        window=settings.window,
        dropout=settings.dropout,
        pre_nms=settings.pre_nms,
        min_score=settings.nms.min_score,
    )
