"""The geometry of the two-stage detector: anchors, matching to truths, boundary regression, choice of proposals.

Spans are (start, end) in steps. Nothing here is learned, and nothing draws a random number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.heads.soft_nms import soft_nms

NEGATIVE = -1  # matched to no truth
IGNORED = -2  # too near to a truth to be background, too far to be that truth

MAX_LOG_LENGTH = 4.0  # regression makes a segment at most e^4 = 55 times as long; more would overflow some day
CANDIDATES = 2000  # anchors of one video that enter the suppression
PROPOSAL_TIOU = 0.7  # of two proposals that overlap so much, the surer one stays


def anchor_spans(lengths: Tensor, num_steps: int) -> Tensor:
    """Anchors (T, A, 2) float32 of `lengths` (A,), in steps, centred at each of `num_steps` steps."""
    centers = torch.arange(num_steps, dtype=torch.float32, device=lengths.device)[:, None]  # (T, 1)
    return torch.stack([centers - lengths / 2, centers + lengths / 2], dim=-1)


def tiou(a: Tensor, b: Tensor) -> Tensor:
    """Temporal intersection over union (P, M) of spans (P, 2) and (M, 2)."""
    overlap = (torch.minimum(a[:, None, 1], b[:, 1]) - torch.maximum(a[:, None, 0], b[:, 0])).clamp(min=0)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0]) - overlap
    return overlap / union


def match(span: Tensor, truth: Tensor, *, positive: float, negative: float, keep_best: bool) -> Tensor:
    """For spans (P, 2) the truth of (M, 2) that each stands for (P,) int64, or NEGATIVE, or IGNORED.

    A span stands for the truth it overlaps most (the first of equals) where tIoU >= `positive`; it is NEGATIVE where
    all tIoU < `negative`. `keep_best`: the span that overlaps a truth most (the first of equals) stands for that truth
    whatever the tIoU above zero; where it is the best of several truths, for the one it overlaps most.
    """
    if len(truth) == 0:
        return torch.full((len(span),), NEGATIVE, device=span.device)
    overlaps = tiou(span, truth)  # (P, M)
    most, of_span = overlaps.max(dim=1)  # (P,)
    matched = torch.where(most >= positive, of_span, IGNORED)
    matched = torch.where(most < negative, NEGATIVE, matched)
    if keep_best:
        is_best = torch.zeros_like(overlaps, dtype=torch.bool)
        is_best[overlaps.argmax(dim=0), torch.arange(len(truth), device=span.device)] = True
        best, best_of_span = torch.where(is_best, overlaps, 0.0).max(dim=1)  # (P,)
        matched = torch.where(best > 0, best_of_span, matched)
    return matched


def encode(span: Tensor, truth: Tensor) -> Tensor:
    """The regression (P, 2) from spans (P, 2) to truths (P, 2): (shift of the centre / length, log of the lengths)."""
    length, true_length = span[:, 1] - span[:, 0], truth[:, 1] - truth[:, 0]
    shift = (truth.mean(dim=1) - span.mean(dim=1)) / length
    return torch.stack([shift, torch.log(true_length / length)], dim=1)


def regress(span: Tensor, delta: Tensor) -> Tensor:
    """Spans (P, 2) float32 moved and stretched by `delta` (P, 2): the inverse of `encode`."""
    delta = delta.to(torch.float32)
    length = span[:, 1] - span[:, 0]
    center = span.mean(dim=1) + delta[:, 0] * length
    half = length * torch.exp(delta[:, 1].clamp(-MAX_LOG_LENGTH, MAX_LOG_LENGTH)) / 2
    return torch.stack([center - half, center + half], dim=1)


def choose(span: Tensor, score: Tensor, *, num: int) -> Tensor:
    """Indices (<= num,), best first, of the best of spans (P, 2) by `score` (P,) that overlap no better one much.

    Greedy suppression from PROPOSAL_TIOU on among the CANDIDATES best; equal scores rank by index. Spans so short that
    their ends are equal in float32 are left out.
    """
    spans = span.detach().cpu().numpy()
    scores = score.detach().cpu().numpy()
    order = np.argsort(-scores, kind="stable")
    order = order[spans[order, 0] < spans[order, 1]][:CANDIDATES]
    falling = np.linspace(1, 0, len(order))  # suppression takes scores >= 0, and only the order matters
    one_label = np.zeros(len(order), dtype=np.int64)
    kept, _ = soft_nms(spans[order], falling, one_label, method="hard", tiou=PROPOSAL_TIOU, min_score=0, keep=num)
    return torch.from_numpy(order[kept]).to(span.device)
