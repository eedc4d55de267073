"""The RoI detector: what it reads, what its loss is made of, what comes out of it, and that it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.boxes import iou_matrix
from pipeline.heads import build
from pipeline.heads.proposals import overlap
from pipeline.heads.roi import KeyDetections, KeyTargets, RoIDetector, RoIOutput, _at
from schemas.annotation_files import TubesAnnotations
from schemas.heads import RoIHead

NUM_CLASSES = 3


def make(**settings: Any) -> RoIDetector:
    values = {"hidden": 16, "max_boxes": 6, "min_score": 0.0} | settings
    section = RoIHead(
        kind="roi", features=("a", "b"), annotations=TubesAnnotations(kind="tubes", path="tubes"), **values
    )
    head = build(section, blocks=(6, 4), num_classes=NUM_CLASSES, seed=1)
    assert isinstance(head, RoIDetector)
    return head


def maps_of(num: int = 3, *, steps: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(num, 10, steps, 9, 11, generator=generator)
    return maps, torch.rand(num, generator=generator) * (steps - 1)


def random_boxes(num: int, seed: int) -> Tensor:
    corners = torch.rand(num, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def targets_of(counts: tuple[int, ...]) -> list[KeyTargets]:
    parts = []
    for seed, count in enumerate(counts):
        generator = torch.Generator().manual_seed(seed)
        actions = (torch.rand(count, NUM_CLASSES, generator=generator) < 0.4).float()
        parts.append(KeyTargets(random_boxes(count, seed), actions))
    return parts


def alone(output: KeyDetections) -> list[Tensor]:
    return [output.box, output.score, output.objectness]


# ---------------------------------------------------------------- forward


@pytest.mark.parametrize("steps", [1, 4])
def test_shapes(steps: int) -> None:
    head, (maps, key_step) = make(), maps_of(steps=steps)
    output = head(maps, key_step)
    num = len(output.boxes)
    assert 3 <= num <= 18
    assert output.actions.shape == (num, NUM_CLASSES)
    assert output.deltas.shape == (num, 4)
    assert output.image.tolist() == sorted(output.image.tolist())
    assert set(output.image.tolist()) == {0, 1, 2}
    assert ((output.boxes >= 0) & (output.boxes <= 1)).all()


def test_the_keyframes_map_is_read_between_steps() -> None:
    maps = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(5, 1, 4, 1, 1) ** 2
    step = torch.tensor([0.0, 1.25, 3.0, -2.0, 9.0])  # beyond the ends: the first and last map
    assert _at(maps, step).flatten().tolist() == [0, 1.75, 9, 0, 9]


def test_the_instant_and_the_order_of_steps_count() -> None:
    head, (maps, key_step) = make(proposals="truth"), maps_of(1)
    boxes = [random_boxes(2, 0)]
    scores = head(maps, key_step, boxes).actions
    assert not torch.allclose(head(maps, key_step + 0.5, boxes).actions, scores)
    assert not torch.allclose(head(maps.flip(2), 3 - key_step, boxes).actions, scores)


def test_an_action_is_read_where_the_box_is() -> None:
    head, (maps, key_step) = make(proposals="truth"), maps_of(1)
    left = torch.tensor([[0.1, 0.1, 0.4, 0.9]])
    other = maps.clone()
    other[..., 7:] = maps[..., 7:].flip(-1)  # columns 7 to 10 hold other things in another place
    for name, same in (("left", True), ("right", False)):
        box = left if name == "left" else left + torch.tensor([0.55, 0, 0.55, 0])
        before, after = (head(m, key_step, [box]).actions for m in (maps, other))
        assert torch.allclose(before, after, atol=1e-5) == same  # the group normalisation sees equal numbers


def test_given_boxes_may_be_none_of_a_keyframe() -> None:
    head, (maps, key_step) = make(proposals="truth"), maps_of()
    output = head(maps, key_step, [random_boxes(2, 0), torch.zeros(0, 4), random_boxes(1, 1)])
    assert output.image.tolist() == [0, 0, 2]
    assert [len(found) for found in head.decode(output)] == [2, 0, 1]


def test_a_head_that_learned_no_boxes_wants_some() -> None:
    head, (maps, key_step) = make(proposals="truth"), maps_of()
    assert not any(name.startswith(("proposals", "refine")) for name, _ in head.named_parameters())
    with pytest.raises(ValueError, match="this head learned no boxes"):
        head(maps, key_step)


# ---------------------------------------------------------------- loss


def loss_by_hand(head: RoIDetector, output: RoIOutput, targets: list[KeyTargets], n: int) -> float:
    target = targets[n]
    rows = [row for row in range(len(output.boxes)) if output.image[row] == n]
    on_truth, _ = head._read(output.context, output.layout, target.box, torch.full((len(target),), n))
    entropies = [
        F.binary_cross_entropy_with_logits(on_truth[g], target.actions[g], reduction="sum").item()
        for g in range(len(target))
    ]
    misfits = []
    for row in rows:
        ious = iou_matrix(output.boxes[row : row + 1].numpy(), target.box.numpy())[0].tolist()
        if ious and max(ious) >= 0.5:
            g = ious.index(max(ious))
            wanted = target.actions[g]
            entropies.append(F.binary_cross_entropy_with_logits(output.actions[row], wanted, reduction="sum").item())
            x1, y1, x2, y2 = output.boxes[row].tolist()
            dx, dy, dw, dh = output.deltas[row].tolist()
            cx, cy = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            half_w, half_h = (x2 - x1) * math.exp(dw) / 2, (y2 - y1) * math.exp(dh) / 2
            refined = torch.tensor([[cx - half_w, cy - half_h, cx + half_w, cy + half_h]])
            misfits.append(1 - overlap(refined, target.box[g : g + 1])[1].item())
    total = sum(entropies) / max(len(entropies), 1)
    if output.dense is not None and head.proposals is not None:
        total += sum(misfits) / max(len(misfits), 1)
        total += head.proposals.loss(output.dense, [t.box for t in targets], (9, 11))[n].item()
    return total


@pytest.mark.parametrize("proposals", ["learned", "truth"])
def test_the_loss_is_that_of_a_plain_loop(proposals: str) -> None:
    head, (maps, key_step) = make(proposals=proposals, max_boxes=20, nms_iou=0.9), maps_of(4)
    if head.refine is not None:
        torch.nn.init.normal_(head.refine.weight, std=0.2)
    targets = targets_of((2, 0, 3, 1))
    boxes = None
    if proposals == "truth":  # boxes of a detector: one beside each true one, and one elsewhere
        boxes = [torch.cat([target.box + 0.01, random_boxes(1, 9)]) for target in targets]
    with torch.no_grad():
        output = head(maps, key_step, boxes)
        losses = head.loss(output, targets)
        ious = [iou_matrix(output.boxes[output.image == n].numpy(), targets[n].box.numpy()).max() for n in (0, 2, 3)]
        assert max(ious) >= 0.5  # the loop has something to match
        for n in range(4):
            assert losses[n].item() == pytest.approx(loss_by_hand(head, output, targets, n), rel=1e-4)


@pytest.mark.parametrize("proposals", ["learned", "truth"])
def test_no_keyframe_touches_another(proposals: str) -> None:
    head, (maps, key_step) = make(proposals=proposals), maps_of()
    targets = targets_of((2, 0, 3))
    boxes = None if proposals == "learned" else [random_boxes(num, num) for num in (1, 3, 0)]
    output = head(maps, key_step, boxes)
    losses, detections = head.loss(output, targets), head.decode(output)
    for n in range(3):
        one = slice(n, n + 1)
        single = head(maps[one], key_step[one], None if boxes is None else boxes[one])
        torch.testing.assert_close(head.loss(single, targets[one])[0], losses[n])
        for got, want in zip(alone(head.decode(single)[0]), alone(detections[n]), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("proposals", ["learned", "truth"])
def test_every_weight_has_a_finite_gradient_even_where_there_is_nobody(proposals: str) -> None:
    """Workers average gradients: what has none on one of them would hold up the others."""
    head, (maps, key_step) = make(proposals=proposals), maps_of(1)
    boxes = None if proposals == "learned" else [torch.zeros(0, 4)]
    head.loss(head(maps, key_step, boxes), targets_of((0,))).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


def test_nothing_is_drawn_at_random() -> None:
    head, (maps, key_step) = make(), maps_of()
    head.train()
    one, two = (head.loss(head(maps, key_step), targets_of((2, 0, 3))) for _ in range(2))
    assert torch.equal(one, two)


# ---------------------------------------------------------------- decode


def output_of(head: RoIDetector, *, learned: bool = True, **columns: Any) -> RoIOutput:
    """An output of one keyframe with the boxes, scores and deltas that a test wants."""
    maps, key_step = maps_of(1)
    output = head(maps, key_step) if learned else head(maps, key_step, [columns["boxes"]])
    num = len(columns["boxes"])
    defaults = {"deltas": torch.zeros(num, 4), "actions": torch.zeros(num, NUM_CLASSES)}
    return output._replace(image=torch.zeros(num, dtype=torch.int64), **(defaults | columns))


def test_learned_boxes_are_refined_clipped_and_suppressed() -> None:
    head = make()
    boxes = torch.tensor([[0.2, 0.2, 0.4, 0.6], [0.5, 0.5, 1.0, 1.0], [0.52, 0.5, 1.0, 1.0], [0.0, 0.0, 0.2, 0.2]])
    deltas = torch.zeros(4, 4)
    deltas[0] = torch.tensor([0.5, -0.25, math.log(2), math.log(0.5)])  # centre (.4, .3), .4 wide, .2 high
    deltas[1] = torch.tensor([0.5, 0, 0, 0])  # out on the right by half
    deltas[3] = torch.tensor([-2, 0, 0, 0])  # out altogether
    scores = torch.tensor([0.6, 0.9, 0.7, 0.8])
    actions = torch.tensor([[2.0, 0, -2], [0, 0, 0], [1, 1, 1], [3, 3, 3]])
    found = head.decode(output_of(head, boxes=boxes, deltas=deltas, box_score=scores, actions=actions))[0]
    # the second, clipped, is .25 wide: it overlaps the third by 25/48
    torch.testing.assert_close(found.box, torch.tensor([[0.75, 0.5, 1.0, 1.0], [0.2, 0.2, 0.6, 0.4]]))
    torch.testing.assert_close(found.objectness, torch.tensor([0.9, 0.6]))
    torch.testing.assert_close(found.score, actions[[1, 0]].sigmoid() * torch.tensor([[0.9], [0.6]]))


def test_given_boxes_stay_as_they_are_if_sure_enough() -> None:
    head = make(proposals="truth", min_box_score=0.8)
    boxes = torch.tensor([[0.2, 0.2, 0.4, 0.6], [0.2, 0.2, 0.4, 0.6], [0.0, -0.1, 1.2, 1.0]])
    scores = torch.tensor([0.8, 0.79, 0.95])
    found = head.decode(output_of(head, learned=False, boxes=boxes, deltas=torch.ones(3, 4), box_score=scores))[0]
    assert torch.equal(found.box, boxes[[0, 2]])
    torch.testing.assert_close(found.score, torch.tensor([[0.4], [0.475]]).expand(2, NUM_CLASSES))
    maps, key_step = maps_of(1)
    assert head(maps, key_step, [boxes]).box_score.tolist() == [1, 1, 1]  # boxes without scores are sure
    assert torch.equal(head(maps, key_step, [boxes], [scores]).box_score, scores)


def test_boxes_without_any_action_are_left_out() -> None:
    head = make(proposals="truth", min_score=0.2)
    actions = torch.tensor([[-2.0, -2, -2], [-2, 0, -2]])
    output = output_of(head, learned=False, boxes=random_boxes(2, 0), box_score=torch.ones(2), actions=actions)
    found = head.decode(output)[0]
    torch.testing.assert_close(found.score, actions[1:].sigmoid())


@pytest.mark.parametrize(
    ("box", "actions", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3), "box must be float32"),
        (torch.tensor([[0.0, 0, 1, 1]]).double(), torch.zeros(1, 3), "box must be float32"),
        (torch.tensor([[0.0, 0, 1, 1]]), torch.zeros(2, 3), r"actions must be float32 \(1, K\)"),
        (torch.tensor([[0.0, 0, 1, 1]]), torch.zeros(1, 3).long(), "actions must be float32"),
        (torch.tensor([[0.5, 0, 0.5, 1]]), torch.zeros(1, 3), "boxes must end after their start"),
        (torch.tensor([[float("nan"), 0, 0.5, 1]]), torch.zeros(1, 3), "boxes must end after their start"),
    ],
)
def test_targets_that_make_no_sense_are_refused(box: Tensor, actions: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KeyTargets(box, actions)
