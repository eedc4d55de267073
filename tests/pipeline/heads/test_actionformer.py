"""The one-stage temporal head: shapes, what padding can't touch, its loss in plain loops, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.heads import build
from pipeline.heads.actionformer import ActionFormer, LocalAttention, Output
from pipeline.heads.anchor_free import assign, diou_loss, focal_loss, make_points
from pipeline.heads.soft_nms import soft_nms
from pipeline.heads.temporal import StepDetections, StepSegments
from schemas.heads import ActionFormerHead

DIM, NUM_CLASSES = 6, 3
LENGTHS = (21, 1, 6, 13)  # of N=4 videos, T=21
ROWS: tuple[tuple[tuple[float, float, int], ...], ...] = (  # of each video: start, end, label
    ((1.0, 4.5, 0), (3.0, 19.0, 1), (19.5, 26.0, 2)),  # the last one ends after the last clip
    ((-0.5, 0.5, 1),),
    (),
    ((2.0, 2.5, 2), (3.0, 10.0, 2), (11.0, 17.0, 0)),  # the centre of the last one lies in the padding
)


def make(**settings: Any) -> ActionFormer:
    values: dict[str, Any] = {"channels": 16, "levels": 3, "heads": 2, "window": 5} | settings
    config = ActionFormerHead(kind="actionformer", features=("c3d",), **values)
    head = build(config, blocks=(4, 2), num_classes=NUM_CLASSES, seed=1)
    assert isinstance(head, ActionFormer)
    return head


def segments(rows: tuple[tuple[float, float, int], ...]) -> StepSegments:
    span = torch.tensor([row[:2] for row in rows], dtype=torch.float32).reshape(-1, 2)
    return StepSegments(span=span, label=torch.tensor([row[2] for row in rows], dtype=torch.int64))


def batch() -> tuple[Tensor, Tensor, list[StepSegments]]:
    x = torch.randn(4, 21, DIM, generator=torch.Generator().manual_seed(0))  # (N, T, D)
    mask = torch.arange(21) < torch.tensor(LENGTHS)[:, None]  # (N, T)
    return x * mask[:, :, None], mask, [segments(rows) for rows in ROWS]


def noise_of(head: ActionFormer, num: int) -> Tensor:
    return torch.rand(num, head.num_noise, generator=torch.Generator().manual_seed(1))


def test_shapes_and_that_nothing_fires_at_first() -> None:
    head, (x, mask, targets) = make(), batch()
    output = head(x, mask)
    num_points = 21 + 11 + 6
    assert output.logits.shape == (4, num_points, NUM_CLASSES)
    assert output.distance.shape == (4, num_points, 2)
    assert output.mask.sum(dim=1).tolist() == [num_points, 3, 6 + 3 + 2, 13 + 7 + 4]
    assert (output.distance > 0).all()
    assert torch.sigmoid(output.logits[output.mask]).max() < 0.1
    losses = head.loss(output, targets, mask)
    assert losses.shape == (4,)
    assert torch.isfinite(losses).all()


@pytest.mark.parametrize("filler", [1e9, float("nan"), float("inf")])
def test_padding_contents_change_nothing_to_the_last_bit(filler: float) -> None:
    head, (x, mask, targets) = make(), batch()
    outcomes = []
    for inputs in (x, torch.where(mask[:, :, None], x, filler)):
        head.zero_grad()
        output = head(inputs, mask, noise_of(head, 4))
        losses = head.loss(output, targets, mask)
        losses.sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])
        found = [torch.cat([d.span.flatten(), d.score, d.label]) for d in head.decode(output, mask)]
        outcomes.append((losses.detach(), gradients, torch.cat(found).detach()))
    for clean, dirty in zip(*outcomes, strict=True):
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, dirty)


def test_a_padded_batch_gives_what_each_video_gives_alone() -> None:
    head, (x, mask, targets) = make(), batch()
    with torch.no_grad():  # biases are not zero, nor gains one: what they leave in the padding would show
        for p in head.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    noise = noise_of(head, 4)
    output = head(x, mask, noise)
    losses, detections = head.loss(output, targets, mask), head.decode(output, mask)
    for n, length in enumerate(LENGTHS):
        whole, own = torch.ones(1, length, dtype=torch.bool), slice(n, n + 1)
        alone = head(x[own, :length], whole, noise[own])
        torch.testing.assert_close(alone.logits[0], output.logits[n][output.mask[n]])
        torch.testing.assert_close(alone.distance[0], output.distance[n][output.mask[n]])
        torch.testing.assert_close(head.loss(alone, targets[own], whole)[0], losses[n])
        found = head.decode(alone, whole)[0]
        assert len(found) == len(detections[n]) == min(head.pre_nms, int(output.mask[n].sum()) * NUM_CLASSES)
        torch.testing.assert_close(found.score, detections[n].score)


def test_attention_against_a_loop_over_steps() -> None:
    attention = LocalAttention(8, heads=2, window=3, stride=1)
    x, mask = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2)), torch.ones(1, 6, 1)
    mask[0, 4:] = 0
    x = x * mask
    modules = zip(attention.mix, attention.norm, attention.project, strict=True)
    q, k, v = (project(norm(mix(x, mask)))[0].unflatten(1, (2, 4)) for mix, norm, project in modules)  # (T, H, C / H)
    rows = torch.zeros(6, 2, 4)
    for t in range(4):
        for h in range(2):
            near = [u for u in (t - 1, t, t + 1) if 0 <= u < 4]
            weight = torch.softmax(torch.stack([q[t, h] @ k[u, h] / 2.0 for u in near]), dim=0)
            rows[t, h] = sum((w * v[u, h] for w, u in zip(weight, near, strict=True)), torch.zeros(4))
    expected = attention.out(rows.flatten(1)) * mask[0]
    torch.testing.assert_close(attention(x, mask)[0], expected)


def test_loss_against_a_loop_over_points() -> None:
    head, (x, mask, targets) = make(), batch()
    output = Output(*(part.detach() for part in head(x, mask)))
    losses = head.loss(output, targets, mask)
    points = make_points(21, 3)
    for n, target in enumerate(targets):
        classes, distance = assign(points, target, NUM_CLASSES)
        total, num_positive = 0.0, 0
        for p in range(len(points.step)):
            if points.step[p] >= LENGTHS[n]:
                continue
            total += float(focal_loss(output.logits[n, p], classes[p]).sum())
            if classes[p].any():
                num_positive += 1
                total += float(diou_loss(output.distance[n, p], distance[p]))
        assert (num_positive > 0) == (n != 2)
        assert float(losses[n]) == pytest.approx(total / max(num_positive, 1), rel=1e-5)


def test_decode_by_hand() -> None:
    head = make(levels=2, pre_nms=3)
    logits = torch.full((1, 6, NUM_CLASSES), -20.0)  # of the points at steps 0 1 2 3 | 0 2, the last step padding
    logits[0, 1, 0] = logits[0, 5, 2] = logits[0, 1, 2] = 2.0
    logits[0, 0, 1] = 3.0
    logits[0, 3, 1] = 9.0  # padding
    distance = torch.tensor([0.5, 1.0]).expand(1, 6, 2).clone()
    mask = torch.tensor([[True, True, True, False]])
    present = torch.cat([mask, mask[:, ::2]], dim=1)
    (found,) = head.decode(Output(logits, distance, present), mask)
    assert found.label.tolist() == [1, 0, 2]  # of three equal scores: the finer level, then the smaller class
    assert found.span.tolist() == [[-0.5, 1.0], [0.5, 2.0], [0.5, 2.0]]
    torch.testing.assert_close(found.score, torch.sigmoid(torch.tensor([3.0, 2.0, 2.0])))
    distance[:] = 0.0
    assert len(head.decode(Output(logits, distance, present), mask)[0]) == 0  # no length


def test_a_long_video_and_equal_runs() -> None:
    x = torch.randn(1, 5000, DIM, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 5000, dtype=torch.bool)
    head = make(levels=8, pre_nms=100)
    first, second = (head.decode(head(x, mask), mask)[0] for _ in range(2))
    assert len(first) == 100
    assert torch.equal(first.span, second.span)
    assert torch.equal(first.score, second.score)
    assert torch.equal(first.label, second.label)


def test_dropout_comes_from_the_noise_alone() -> None:
    x, mask, _ = batch()
    head = make(dropout=0.5).train()
    assert torch.equal(head(x, mask).logits, head(x, mask).logits)
    dropped = head(x, mask, noise_of(head, 4)).logits
    assert not torch.equal(dropped, head(x, mask).logits)
    assert torch.equal(dropped, head(x, mask, noise_of(head, 4)).logits)
    assert make(dropout=0.0).num_noise == 0


def scene(rng: np.random.Generator) -> tuple[Tensor, StepSegments]:
    """A video of 32 to 48 steps in which class k lights up dimension k, between ends that fall between steps."""
    num_steps = int(rng.integers(32, 49))
    x = rng.normal(size=(num_steps, DIM)) * 0.3
    rows, clock = [], float(rng.uniform(0, 4))
    while (end := clock + float(rng.uniform(3, 14))) < num_steps - 1:
        label = int(rng.integers(NUM_CLASSES))
        steps = np.arange(num_steps)
        x[:, label] += 2 * np.clip(np.minimum(steps + 0.5, end) - np.maximum(steps - 0.5, clock), 0, 1)
        rows.append((clock, end, label))
        clock = end + float(rng.uniform(1, 6))
    return torch.tensor(x, dtype=torch.float32), segments(tuple(rows))


def recall(found: StepDetections, truth: StepSegments, *, tiou: float) -> tuple[int, int]:
    """True segments that one of as many best detections after soft-NMS covers, and how many there are."""
    kept, _ = soft_nms(found.span.numpy(), found.score.numpy(), found.label.numpy(), keep=len(truth))
    hits = 0
    for (start, end), label in zip(truth.span.tolist(), truth.label.tolist(), strict=True):
        for s, e in found.span[kept[found.label.numpy()[kept] == label]].tolist():
            inter = min(e, end) - max(s, start)
            if inter / (max(e, end) - min(s, start)) >= tiou:
                hits += 1
                break
    return hits, len(truth)


def test_it_learns_to_find_segments_in_videos_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    train, test = [scene(rng) for _ in range(12)], [scene(rng) for _ in range(12)]

    def collate(videos: list[tuple[Tensor, StepSegments]]) -> tuple[Tensor, Tensor, list[StepSegments]]:
        x = torch.nn.utils.rnn.pad_sequence([v[0] for v in videos], batch_first=True)
        mask = torch.arange(x.shape[1]) < torch.tensor([len(v[0]) for v in videos])[:, None]
        return x, mask, [v[1] for v in videos]

    head = make(channels=24)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(40):
        order = torch.randperm(len(train), generator=generator).tolist()
        for i in range(0, len(train), 6):
            x, mask, targets = collate([train[n] for n in order[i : i + 6]])
            noise = torch.rand(len(x), head.num_noise, generator=generator)
            loss = head.loss(head(x, mask, noise), targets, mask).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        x, mask, targets = collate(test)
        counts = [recall(d, t, tiou=0.5) for d, t in zip(head.decode(head(x, mask), mask), targets, strict=True)]
    assert sum(c[0] for c in counts) / sum(c[1] for c in counts) > 0.9
