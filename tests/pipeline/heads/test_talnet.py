"""TAL-Net: what its towers see, what its loss adds up, and what padding can't touch."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.heads import build
from pipeline.heads.soft_nms import soft_nms
from pipeline.heads.soi_pool import soi_pool
from pipeline.heads.talnet import TALNet, Tower, VideoOutput
from pipeline.heads.talnet_proposals import encode, regress, tiou
from pipeline.heads.temporal import StepSegments
from schemas.heads import SoftNMS, TALNetHead

ANCHORS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0)
LENGTHS = (12, 1, 5)  # of N=3 videos, T=12
K = 3


def make(blocks: tuple[int, ...] = (4,), **settings: Any) -> TALNet:
    values: dict[str, Any] = {"channels": 8, "anchors": (2.0, 5.0), "proposals": 20, "nms": SoftNMS(min_score=0)}
    features = tuple(f"stream{index}" for index in range(len(blocks)))
    head = build(
        TALNetHead(kind="talnet", features=features, **values | settings), blocks=blocks, num_classes=K, seed=1
    )
    assert isinstance(head, TALNet)
    return head


def segments(*rows: tuple[float, float, int]) -> StepSegments:
    span = torch.tensor([row[:2] for row in rows], dtype=torch.float32).reshape(-1, 2)
    return StepSegments(span=span, label=torch.tensor([row[2] for row in rows], dtype=torch.int64))


def batch(dim: int = 4) -> tuple[Tensor, Tensor, list[StepSegments]]:
    x = torch.randn(3, 12, dim, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    mask = torch.arange(12) < torch.tensor(LENGTHS)[:, None]  # (N, T)
    return x * mask[:, :, None], mask, [segments((1, 4, 2), (3.5, 10, 0)), segments((-0.4, 0.4, 1)), segments()]


def columns(head: TALNet, output: list[VideoOutput], targets: list[StepSegments], mask: Tensor) -> list[Tensor]:
    """All that comes out of a head: losses, detections, and the gradients of the losses' sum."""
    head.zero_grad()
    losses = head.loss(output, targets, mask)
    losses.sum().backward()
    detections = head.decode(output, mask)
    parts = [part.detach() for found in detections for part in (found.span, found.score, found.label)]
    return [losses.detach(), *parts, *(p.grad.clone() for p in head.parameters() if p.grad is not None)]


# ---------------------------------------------------------------- receptive fields


def seen_steps(tower: Tower, num_steps: int) -> list[int]:
    """The steps that the tower's answer at the middle step can depend on: where some input has a gradient."""
    seen = torch.zeros(num_steps, dtype=torch.bool)
    for seed in range(30):  # which step is the maximum, and which units fire, depends on the input
        h = torch.rand(num_steps, 8, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        (gradient,) = torch.autograd.grad(tower(h)[num_steps // 2, 0], h)
        seen |= (gradient != 0).any(dim=1)
    return seen.nonzero().flatten().tolist()


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("anchor_steps", [1.0, 6.0])
def test_a_tower_sees_its_anchor_or_twice_that(context: bool, anchor_steps: float) -> None:
    head = make(anchors=ANCHORS, anchor_steps=anchor_steps, context=context)
    towers = list(head.streams[0].towers)
    assert len(towers) == len(ANCHORS)
    fields = []
    for tower, anchor in zip(towers, ANCHORS, strict=True):
        extent = anchor * anchor_steps * (2 if context else 1)
        seen = seen_steps(tower, 321)
        reach = (len(seen) - 1) // 2
        assert seen == list(range(160 - reach, 160 + reach + 1))  # centred, without holes
        assert len(seen) == tower.pool + 2 * sum(tower.dilations)
        # dilations are whole: extent/6 + extent/3 on either side, and half of the max-pool's extent/6
        assert abs(len(seen) - extent * 7 / 6) <= 4
        fields.append(len(seen))
    assert all(shorter <= longer for shorter, longer in pairwise(fields))


def test_at_scale_six_the_dilations_are_the_papers() -> None:
    head = make(anchors=ANCHORS, anchor_steps=6.0, context=False)
    assert [tower.dilations for tower in head.streams[0].towers] == [(int(a), 2 * int(a)) for a in ANCHORS]
    doubled = make(anchors=ANCHORS, anchor_steps=6.0, context=True)
    assert [tower.dilations for tower in doubled.streams[0].towers] == [(2 * int(a), 4 * int(a)) for a in ANCHORS]


@pytest.mark.parametrize("extent", [1.0, 6.0, 40.0])
def test_a_towers_arithmetic_is_max_pool_and_dilated_convolutions(extent: float) -> None:
    tower = Tower(8, extent)
    h = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    by_torch = F.max_pool1d(h.T[None], tower.pool, stride=1, padding=tower.pool // 2)  # (1, C, T)
    for conv, dilation in zip(tower.convs, tower.dilations, strict=True):
        taps = 3 if dilation else 1
        weight = conv.weight.unflatten(1, (taps, 8)).movedim(1, 2)  # (C, C, taps)
        padding = dilation if dilation else 0
        by_torch = F.relu(F.conv1d(by_torch, weight, conv.bias, dilation=max(dilation, 1), padding=padding))
    torch.testing.assert_close(tower(h), tower.score(by_torch[0].T), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- the whole


def test_shapes() -> None:
    head, (x, mask, targets) = make(), batch()
    output = head(x, mask)
    for video, length in zip(output, LENGTHS, strict=True):
        assert video.anchors.shape == (length * 2, 2)
        assert video.anchor_scores.shape == (length * 2, 3)
        assert 1 <= len(video.proposals) <= 20
        assert video.objectness.shape == (len(video.proposals),)
        assert video.proposal_scores.shape == (len(video.proposals), K + 1 + 2)
    losses = head.loss(output, targets, mask)
    assert losses.shape == (3,)
    assert torch.isfinite(losses).all()
    assert len(head.decode(output, mask)) == 3


@pytest.mark.parametrize("num_steps", [1, 2, 5000])
def test_any_length(num_steps: int) -> None:
    head = make(anchors=ANCHORS, anchor_steps=4.0, proposals=100)
    x = torch.randn(1, num_steps, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, num_steps, dtype=torch.bool)
    output = head(x, mask)
    head.loss(output, [segments((0, num_steps - 0.5, 1))], mask).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    (found,) = head.decode(output, mask)
    assert len(found) == len(output[0].proposals) * K
    assert (found.span[:, 0] < found.span[:, 1]).all()


@pytest.mark.parametrize("filler", [1e9, float("nan"), float("inf")])
def test_padding_contents_change_nothing_to_the_last_bit(filler: float) -> None:
    head, (x, mask, targets) = make(), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(1))
    clean = columns(head, head(x, mask, noise), targets, mask)
    dirty = columns(head, head(torch.where(mask[:, :, None], x, filler), mask, noise), targets, mask)
    for one, other in zip(clean, dirty, strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


def test_a_padded_batch_gives_what_each_video_gives_alone_to_the_last_bit() -> None:
    head, (x, mask, targets) = make((3, 1)), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(1))
    output = head(x, mask, noise)
    losses, detections = head.loss(output, targets, mask), head.decode(output, mask)
    for n, length in enumerate(LENGTHS):
        rows = slice(n, n + 1)
        alone = head(x[rows, :length], mask[rows, :length], noise[rows])
        assert torch.equal(head.loss(alone, targets[rows], mask[rows, :length])[0], losses[n])
        (found,) = head.decode(alone, mask[rows, :length])
        assert torch.equal(found.span, detections[n].span)
        assert torch.equal(found.score, detections[n].score)
        assert torch.equal(found.label, detections[n].label)


def test_every_weight_learns_even_from_a_video_without_segments() -> None:
    head, (x, mask, _) = make((3, 1)), batch()
    head.loss(head(x, mask), [segments()] * 3, mask).sum().backward()
    assert all(p.grad is not None for p in head.parameters())  # workers that average gradients wait for each of them


def test_dropout_comes_from_the_noise_alone() -> None:
    head, (x, mask, targets) = make(), batch()
    noise = torch.rand(3, head.num_noise, generator=torch.Generator().manual_seed(2))
    head.train()
    plain, dropped = (head.loss(head(x, mask, numbers), targets, mask) for numbers in (None, noise))
    assert torch.equal(plain, head.loss(head(x, mask), targets, mask))
    assert torch.equal(dropped, head.loss(head(x, mask, noise), targets, mask))
    assert not torch.allclose(plain, dropped)
    first, second = noise.chunk(2, dim=1)  # of the features, and of what is pooled
    for changed in (torch.cat([1 - first, second], dim=1), torch.cat([first, 1 - second], dim=1)):
        assert not torch.allclose(head.loss(head(x, mask, changed), targets, mask), dropped)
    assert make(dropout=0).num_noise == 0


def test_streams_are_averaged() -> None:
    head, (x, mask, _) = make((3, 1)), batch()
    video = head(x, mask)[0]
    parts = []
    for stream, own in zip(head.streams, (x[0, :, :3], x[0, :, 3:]), strict=True):
        h = F.relu(stream.project(own))  # (T, C)
        anchors = torch.stack([tower(h) for tower in stream.towers], dim=1).flatten(0, 1)  # (T A, 3)
        pooled = soi_pool(h, video.proposals, bins=8, extent=2.0).flatten(1)  # (P, B C)
        hidden = F.relu(stream.pooled(pooled))
        parts.append((anchors, torch.cat([stream.classify(hidden), stream.refine(hidden)], dim=1)))
    (anchors_0, segments_0), (anchors_1, segments_1) = parts
    torch.testing.assert_close(video.anchor_scores, (anchors_0 + anchors_1) / 2)
    torch.testing.assert_close(video.proposal_scores, (segments_0 + segments_1) / 2)
    assert not torch.allclose(anchors_0, anchors_1)


# ---------------------------------------------------------------- loss and decoding


def smooth_l1(value: float) -> float:
    return value * value / 2 / 0.1 if abs(value) < 0.1 else abs(value) - 0.05


@torch.no_grad()
def loss_by_loops(head: TALNet, video: VideoOutput, truth: StepSegments) -> float:
    judged = head._judge(video.features, video.keep, truth.span)
    spans = [video.anchors, torch.cat([video.proposals, truth.span])]
    scores = [video.anchor_scores, torch.cat([video.proposal_scores, judged])]
    total = 0.0
    for stage in (0, 1):
        overlaps = tiou(spans[stage], truth.span)  # (P, M)
        sums = {"positive": 0.0, "negative": 0.0, "moves": 0.0}
        counts = {"positive": 0, "negative": 0}
        for p, row in enumerate(overlaps.tolist()):
            best_of = [m for m in range(len(truth)) if stage == 0 and int(overlaps[:, m].argmax()) == p]
            m = max(best_of or range(len(truth)), key=lambda m: row[m], default=0)
            most = max(row, default=0.0)
            is_positive = bool(best_of) or most >= (0.7 if stage == 0 else 0.5)
            if not is_positive and most >= (0.3 if stage == 0 else 0.5):
                continue
            kind = "positive" if is_positive else "negative"
            counts[kind] += 1
            if stage == 0:
                probability = torch.sigmoid(scores[0][p, 0])
                sums[kind] -= float(torch.log(probability if is_positive else 1 - probability))
            else:
                wanted = int(truth.label[m]) if is_positive else K
                sums[kind] -= float(torch.log_softmax(scores[1][p, : K + 1], dim=0)[wanted])
            if is_positive:
                delta = encode(spans[stage][p : p + 1], truth.span[m : m + 1])[0]
                sums["moves"] += sum(smooth_l1(float(d)) for d in scores[stage][p, -2:] - delta)
        share = 0.5 if stage == 0 else 0.25
        total += share * sums["positive"] / max(counts["positive"], 1)
        total += (1 - share) * sums["negative"] / max(counts["negative"], 1)
        total += sums["moves"] / max(counts["positive"], 1)
    return total


def test_loss_by_loops() -> None:
    head, (x, mask, targets) = make((3, 1)), batch()
    for layer in head.modules():  # scores and moves of some size, so that all terms count
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.4, generator=torch.Generator().manual_seed(layer.in_features))
    output = head(x, mask)
    losses = head.loss(output, targets, mask)
    by_loops = [loss_by_loops(head, *pair) for pair in zip(output, targets, strict=True)]
    assert losses.detach().tolist() == pytest.approx(by_loops, rel=1e-4)


@torch.no_grad()
def test_objectness_is_the_first_stages_own() -> None:
    head, (x, mask, _) = make(), batch()
    for video in head(x, mask):
        moved = regress(video.anchors, video.anchor_scores[:, 1:])
        for span, objectness in zip(video.proposals, video.objectness, strict=True):
            (anchor,) = (moved == span).all(dim=1).nonzero().flatten().tolist()
            assert objectness == torch.sigmoid(video.anchor_scores[anchor, 0])


@torch.no_grad()
def test_decoding_by_loops() -> None:
    head, (x, mask, _) = make(), batch()
    output = head(x, mask)
    for video, found in zip(output, head.decode(output, mask), strict=True):
        probability = F.softmax(video.proposal_scores[:, : K + 1], dim=1) * video.objectness[:, None]
        spans = regress(video.proposals, video.proposal_scores[:, -2:])
        rows = [(-float(probability[p, k]), p, k) for p in range(len(spans)) for k in range(K)]
        assert found.score.tolist() == [-score for score, _, _ in sorted(rows)]
        assert found.label.tolist() == [k for _, _, k in sorted(rows)]
        assert torch.equal(found.span, spans[[p for _, p, _ in sorted(rows)]])


def test_decoding_keeps_the_best_of_enough_score() -> None:
    (x, mask, _), some = batch(), SoftNMS(min_score=0.12)
    (all_, *_), (few, *_), (sure, *_) = (
        head.decode(head(x, mask), mask) for head in (make(), make(pre_nms=7), make(nms=some))
    )
    assert few.score.tolist() == all_.score[:7].tolist()
    assert 0 < len(sure) < len(all_)
    assert sure.score.tolist() == [score for score in all_.score.tolist() if score >= 0.12]


def test_it_learns_a_few_videos() -> None:
    generator = torch.Generator().manual_seed(5)
    head = make((6,), channels=24, anchors=(4.0, 8.0, 14.0), proposals=40, dropout=0.2)
    x = 0.3 * torch.randn(4, 50, 6, generator=generator)
    mask = torch.ones(4, 50, dtype=torch.bool)
    targets = [segments((n + 4, n + 9, n % K), (n + 15, n + 27, (n + 1) % K), (36, 45, n % K)) for n in range(4)]
    for n, truth in enumerate(targets):
        for (start, end), label in zip(truth.span.long().tolist(), truth.label.tolist(), strict=True):
            x[n, start : end + 1, label] += 2
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(60):
        noise = torch.rand(4, head.num_noise, generator=generator)
        head.loss(head(x, mask, noise), targets, mask).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        detections = head.decode(head(x, mask), mask)
    for truth, found in zip(targets, detections, strict=True):
        span, label = found.span, found.label
        kept, _ = soft_nms(span.numpy(), found.score.numpy(), label.numpy(), keep=3)
        overlaps = tiou(span[kept], truth.span)  # (3, M) of the three best
        right = (overlaps > 0.7) & (label[kept][:, None] == truth.label)
        assert right.any(dim=0).all()
