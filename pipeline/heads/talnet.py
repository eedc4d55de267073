"""TAL-Net, the two-stage detector of Chao et al. 2018 ("Rethinking the Faster R-CNN Architecture for Temporal Action
Localization").

1. Proposals. At each step stand anchors of several lengths, and each length has a tower of its own, whose receptive
   field is the anchor's length s, or 2 s with context: a max-pool over s/6 steps, then two convolutions of three taps,
   dilated by s/6 and s/3. It says whether something happens there, and how to move the ends.
2. Classification. The proposals that survive suppression are pooled over twice their length (soi_pool) and sorted
   into K classes or background, and their ends move once more.

Each feature product is a stream with weights of its own for all of this. Late fusion: the streams' scores (before
sigmoid and softmax) and regressions are averaged, so all streams share the proposals.

Videos run through the network one by one. Proposals are chosen by order of score, so the last bit of a score can
decide; alone, no video's bits depend on how far a batch is padded or what else is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.heads import register
from pipeline.heads.dropout import keep_factors
from pipeline.heads.soi_pool import soi_pool
from pipeline.heads.talnet_proposals import NEGATIVE, anchor_spans, choose, encode, match, regress
from pipeline.heads.temporal import StepDetections, StepSegments, TemporalHead
from schemas.heads import TALNetHead

BINS = 8  # of a pooled segment: four inside, two on either side; a mean also tells where in its bin an end is
EXTENT = 2.0  # of a pooled segment
ANCHOR_POSITIVE, ANCHOR_NEGATIVE = 0.7, 0.3  # tIoU
PROPOSAL_POSITIVE = 0.5  # tIoU; all below is background
POSITIVE_ANCHORS, POSITIVE_PROPOSALS = 0.5, 0.25  # weight of the positives in the two losses of scores
SMOOTH_L1_BETA = 0.1  # a tenth of the length: where the loss turns from a square to a straight line


class Tower(nn.Module):
    """Scores the anchors of one length. Its receptive field is about `extent` steps, centred: p + 2 (d1 + d2).

    d1 and d2 are extent/6 and extent/3, rounded, and p is d1 or, lest it be lopsided, the next odd number: so wide a
    max-pool closes the gaps between the taps. For few steps a dilation may be 0: a convolution of one tap.
    """

    def __init__(self, channels: int, extent: float) -> None:
        super().__init__()
        self.dilations = round(extent / 6), round(extent / 3)
        self.pool = self.dilations[0] // 2 * 2 + 1
        self.convs = nn.ModuleList([_relu_layer((3 if d else 1) * channels, channels) for d in self.dilations])
        self.score = _small_layer(channels, 3)  # something happens; shift of the centre, log of the length

    def forward(self, h: Tensor) -> Tensor:
        """Scores and regressions (T, 3) from features (T, C)."""
        if self.pool > 1:
            h = F.max_pool1d(h.T[None], self.pool, stride=1, padding=self.pool // 2)[0].T
        for conv, dilation in zip(self.convs, self.dilations, strict=True):
            h = F.relu(conv(_taps(h, dilation)))
        return self.score(h)


class Stream(nn.Module):
    """Both stages of one feature product."""

    def __init__(self, dim: int, num_classes: int, *, channels: int, extents: Sequence[float]) -> None:
        super().__init__()
        self.project = _relu_layer(dim, channels)
        self.towers = nn.ModuleList([Tower(channels, extent) for extent in extents])
        self.pooled = _relu_layer(BINS * channels, channels)
        self.classify = _small_layer(channels, num_classes + 1)  # background last
        self.refine = _small_layer(channels, 2)

    def features(self, x: Tensor, keep: Tensor) -> Tensor:
        """Features (T, C) of x (T, D); `keep` (C,) scales the channels, for dropout."""
        return F.relu(self.project(x)) * keep

    def propose(self, features: Tensor) -> Tensor:
        """Scores and regressions (T, A, 3) of all anchors."""
        return torch.stack([tower(features) for tower in self.towers], dim=1)

    def judge(self, features: Tensor, span: Tensor, keep: Tensor) -> Tensor:
        """Class scores and regressions (P, K + 1 + 2) of segments (P, 2)."""
        pooled = soi_pool(features, span, bins=BINS, extent=EXTENT).flatten(1)  # (P, B C)
        hidden = F.relu(self.pooled(pooled)) * keep  # (P, C)
        return torch.cat([self.classify(hidden), self.refine(hidden)], dim=1)


@dataclass(frozen=True)
class VideoOutput:
    """What the network says of one video. Legend: S streams, T steps, A anchors a step, P proposals, K classes."""

    features: tuple[Tensor, ...]  # S of (T, C)
    keep: tuple[Tensor, ...]  # S of (C,)
    anchors: Tensor  # (T A, 2) steps
    anchor_scores: Tensor  # (T A, 3) something happens (logit); regression
    proposals: Tensor  # (P, 2) steps, without gradient
    objectness: Tensor  # (P,) that something happens in them, in [0, 1], without gradient
    proposal_scores: Tensor  # (P, K + 1 + 2) classes and background (logits); regression


class TALNet(TemporalHead):
    """Legend: N videos, T steps, D feature dimensions in S streams, C channels, A anchors a step, P proposals."""

    lengths: Tensor

    def __init__(
        self,
        blocks: tuple[int, ...],
        num_classes: int,
        *,
        channels: int,
        lengths: Sequence[float],
        context: bool,
        proposals: int,
        dropout: float,
        pre_nms: int,
        min_score: float,
    ) -> None:
        super().__init__()
        extents = [length * (2 if context else 1) for length in lengths]
        self.streams = nn.ModuleList([Stream(dim, num_classes, channels=channels, extents=extents) for dim in blocks])
        self.register_buffer("lengths", torch.tensor(lengths, dtype=torch.float32), persistent=False)
        self.blocks = blocks
        self.num_classes = num_classes
        self.channels = channels
        self.num_proposals = proposals
        self.dropout = dropout
        self.pre_nms = pre_nms
        self.min_score = min_score
        self.num_noise = 2 * len(blocks) * channels if dropout > 0 else 0

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> list[VideoOutput]:
        """What loss() and decode() take, for each video of x (N, T, D)."""
        rows = [None] * len(x) if noise is None or self.dropout == 0 else list(noise)
        return [self._video(x_n[mask_n], row) for x_n, mask_n, row in zip(x, mask, rows, strict=True)]

    def _video(self, x: Tensor, noise: Tensor | None) -> VideoOutput:
        """The same for x (T, D) without padding."""
        keep = self._keep(noise, x)  # (2, S, C)
        streams = self._streams()
        parts = zip(streams, x.split(self.blocks, dim=1), keep[0], strict=True)
        features = tuple(stream.features(part, keep_s) for stream, part, keep_s in parts)
        scores = _mean([stream.propose(h) for stream, h in zip(streams, features, strict=True)])  # (T, A, 3)
        scores = scores.flatten(0, 1).float()  # (T A, 3)
        anchors = anchor_spans(self.lengths, len(x)).flatten(0, 1)  # (T A, 2)
        with torch.no_grad():
            moved = regress(anchors, scores[:, 1:])
            chosen = choose(moved, scores[:, 0], num=self.num_proposals)  # (P,)
            proposals, objectness = moved[chosen], scores[chosen, 0].sigmoid()  # (P, 2), (P,)
        judged = self._judge(features, tuple(keep[1]), proposals)
        return VideoOutput(features, tuple(keep[1]), anchors, scores, proposals, objectness, judged)

    def _streams(self) -> list[Stream]:
        return cast("list[Stream]", self.streams)

    def _keep(self, noise: Tensor | None, x: Tensor) -> Tensor:
        """Factors (2, S, C): a channel is dropped at all steps and proposals of a video, in either place."""
        shape = (2, len(self.blocks), self.channels)
        if noise is None:
            return torch.ones(shape, dtype=x.dtype, device=x.device)
        return keep_factors(noise.reshape(shape), self.dropout).to(x.dtype)

    def _judge(self, features: Sequence[Tensor], keep: Sequence[Tensor], span: Tensor) -> Tensor:
        """Class scores and regressions (P, K + 1 + 2) of segments (P, 2), over all streams."""
        parts = zip(self._streams(), features, keep, strict=True)
        return _mean([stream.judge(h, span, keep_s) for stream, h, keep_s in parts]).float()

    def loss(self, output: list[VideoOutput], targets: Sequence[StepSegments], mask: Tensor) -> Tensor:
        """The loss of each video (N,): of the scores and the regressions of both stages.

        Where the paper draws as many positives as negatives (anchors), or three negatives a positive (proposals), all
        are taken here, positives and negatives weighted so: what the draws give on average. True segments are judged
        along with the proposals, so that the second stage has positives before the first finds any.
        """
        return torch.stack([self._video_loss(*pair) for pair in zip(output, targets, strict=True)])

    def _video_loss(self, video: VideoOutput, truth: StepSegments) -> Tensor:
        matched = match(video.anchors, truth.span, positive=ANCHOR_POSITIVE, negative=ANCHOR_NEGATIVE, keep_best=True)
        logits, deltas = video.anchor_scores[:, 0], video.anchor_scores[:, 1:]
        losses = F.binary_cross_entropy_with_logits(logits, (matched >= 0).float(), reduction="none")
        loss = _weigh(losses, matched, POSITIVE_ANCHORS)
        loss = loss + _regression_loss(deltas, video.anchors, truth.span, matched)

        span = torch.cat([video.proposals, truth.span])
        scores = torch.cat([video.proposal_scores, self._judge(video.features, video.keep, truth.span)])
        matched = match(span, truth.span, positive=PROPOSAL_POSITIVE, negative=PROPOSAL_POSITIVE, keep_best=False)
        classes = torch.full_like(matched, self.num_classes)
        classes[matched >= 0] = truth.label[matched[matched >= 0]]
        losses = F.cross_entropy(scores[:, :-2], classes, reduction="none")
        loss = loss + _weigh(losses, matched, POSITIVE_PROPOSALS)
        return loss + _regression_loss(scores[:, -2:], span, truth.span, matched)

    def decode(self, output: list[VideoOutput], mask: Tensor) -> list[StepDetections]:
        """Each proposal is a detection of each class. Its score is the product of what the two stages say: that
        something happens there, and what it is. (The paper takes the second factor alone, which says little of how
        well a proposal fits: all from tIoU 0.5 on are equally right to it.)
        """
        return [self._detections(video) for video in output]

    def _detections(self, video: VideoOutput) -> StepDetections:
        classes = F.softmax(video.proposal_scores[:, :-2], dim=1)[:, :-1]  # (P, K)
        scores = (classes * video.objectness[:, None]).flatten()  # (P K,)
        span = regress(video.proposals, video.proposal_scores[:, -2:])  # (P, 2)
        best, index = scores.sort(descending=True, stable=True)
        of_proposal, label = index // self.num_classes, index % self.num_classes
        keep = (best >= self.min_score) & (span[of_proposal, 0] < span[of_proposal, 1])
        keep = torch.nonzero(keep)[: self.pre_nms, 0]
        return StepDetections(span=span[of_proposal[keep]], score=best[keep], label=label[keep])


def _taps(h: Tensor, dilation: int) -> Tensor:
    """h (T, C) beside itself `dilation` steps earlier and later (T, 3 C), zero outside: what a convolution weighs.

    The matrix product is several times as fast as torch's dilated convolution on a CPU.
    """
    if dilation == 0:
        return h
    padded = F.pad(h, (0, 0, dilation, dilation))  # (T + 2 d, C)
    return torch.cat([padded[tap * dilation :][: len(h)] for tap in range(3)], dim=1)


def _relu_layer(inputs: int, outputs: int) -> nn.Linear:
    """A layer in front of a relu, of weights that keep the size of what passes through (He et al. 2015)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _small_layer(inputs: int, outputs: int) -> nn.Linear:
    """A last layer: freshly made, a detector says "perhaps" of everything and moves nothing far."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(dim=0)


def _weigh(losses: Tensor, matched: Tensor, positive: float) -> Tensor:
    """Share `positive` of the mean of positives, the rest of the mean of negatives; a mean over none is zero."""
    of_positives = losses[matched >= 0].sum() / (matched >= 0).sum().clamp(min=1)
    of_negatives = losses[matched == NEGATIVE].sum() / (matched == NEGATIVE).sum().clamp(min=1)
    return positive * of_positives + (1 - positive) * of_negatives


def _regression_loss(deltas: Tensor, span: Tensor, truth: Tensor, matched: Tensor) -> Tensor:
    """Smooth L1 of both numbers, summed, averaged over the positives; zero without any."""
    is_positive = matched >= 0
    wanted = encode(span[is_positive], truth[matched[is_positive]])  # (positives, 2)
    losses = F.smooth_l1_loss(deltas[is_positive], wanted, reduction="sum", beta=SMOOTH_L1_BETA)
    return losses / is_positive.sum().clamp(min=1)


@register("talnet")
def build_talnet(settings: TALNetHead, blocks: tuple[int, ...], num_classes: int) -> TALNet:
    return TALNet(
        blocks,
        num_classes,
        channels=settings.channels,
        lengths=[length * settings.anchor_steps for length in settings.anchors],
        context=settings.context,
        proposals=settings.proposals,
        dropout=settings.dropout,
        pre_nms=settings.pre_nms,
        min_score=settings.nms.min_score,
    )
