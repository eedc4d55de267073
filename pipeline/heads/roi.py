"""Who does what, where: boxes of actors in a keyframe and the actions of each, from dense maps of a clip around it.

    output = head(maps, key_step)                       # maps: (N, C, T, H, W) float32; boxes learned from the maps
    output = head(maps, key_step, boxes, box_scores)    # or given, one (B, 4) per keyframe
    loss = head.loss(output, targets)                   # (N,): one per keyframe
    detections = head.decode(output)                    # one KeyDetections per keyframe, after suppression

The actions' part is that of AVA's baselines (Gu et al. 2018; SlowFast, Feichtenhofer et al. 2019): RoIAlign 7×7, the
maximum over the box, a sigmoid for each action. It reads the map at the keyframe's instant beside the mean over time.
Boxes are x1 y1 x2 y2 in shares of the view that the maps cover: cell (i, j) of H×W is centred at ((j + .5) / W,
(i + .5) / H). The keyframe's instant is counted in steps of the maps: step t is the centre of map t, the first is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.boxes import iou_matrix
from pipeline.heads import register
from pipeline.heads.box_nms import nms
from pipeline.heads.proposals import Dense, ProposalHead, groups_of, overlap, propose
from pipeline.heads.roi_align import roi_align
from schemas.heads import RoIHead

MATCH_IOU = 0.5  # a box that overlaps a true one by this learns the true one's actions
LAYOUT = 32  # channels of what is kept of a box bin by bin
MOST_GROWTH = math.log(4)  # by which refinement may scale a box's sides
ACTION_PRIOR = 0.1  # score of each action before any training


@dataclass(frozen=True)
class KeyTargets:
    """The true actors of one keyframe. Raises ValueError where a column has another shape or dtype."""

    box: Tensor  # (G, 4) float32, each of a positive width and height
    actions: Tensor  # (G, K) float32, 1 for each action of the actor, else 0

    def __post_init__(self) -> None:
        if self.box.ndim != 2 or self.box.shape[1] != 4 or self.box.dtype != torch.float32:
            raise ValueError(f"box must be float32 (G, 4), got {self.box.dtype} {tuple(self.box.shape)}")
        if self.actions.ndim != 2 or len(self.actions) != len(self.box) or self.actions.dtype != torch.float32:
            shape = tuple(self.actions.shape)
            raise ValueError(f"actions must be float32 ({len(self.box)}, K), got {self.actions.dtype} {shape}")
        if not (self.box[:, :2] < self.box[:, 2:]).all():  # also false for nan
            raise ValueError(f"boxes must end after their start, got {self.box.tolist()}")

    def __len__(self) -> int:
        return len(self.box)

    def to(self, device: torch.device | str) -> KeyTargets:
        return KeyTargets(box=self.box.to(device), actions=self.actions.to(device))


@dataclass(frozen=True)
class KeyDetections:
    """The detected actors of one keyframe."""

    box: Tensor  # (M, 4) float32 in [0, 1] where learned; as they were given else
    score: Tensor  # (M, K) float32 in [0, 1]: of each action, times objectness
    objectness: Tensor  # (M,) float32: how sure it is of the box; of a given box its own score, 1 without one

    def __len__(self) -> int:
        return len(self.box)


class RoIOutput(NamedTuple):
    """N keyframes, R boxes of all of them together, K actions."""

    context: Tensor  # (N, 2 hidden, H, W): the keyframe's map and the mean over time
    layout: Tensor  # (N, LAYOUT, H, W)
    dense: Dense | None  # what each cell says of boxes; None where they are given
    boxes: Tensor  # (R, 4)
    box_score: Tensor  # (R,)
    image: Tensor  # (R,) int64, ascending: whose box it is
    actions: Tensor  # (R, K) logits
    deltas: Tensor  # (R, 4) shift of the centre and logarithm of the growth, in units of the box's width and height


class RoIDetector(nn.Module):
    """Legend: N keyframes, C channels, T steps, H×W cells, B boxes of one keyframe, R of all, K actions, P bins a side.

    No number of a keyframe depends on the others of its batch, and nothing is drawn at random.
    """

    def __init__(self, settings: RoIHead, channels: int, num_classes: int) -> None:
        super().__init__()
        hidden = settings.hidden
        self.settings = settings
        self.reduce = nn.Sequential(
            nn.Conv3d(channels, hidden, 1, bias=False), nn.GroupNorm(groups_of(hidden), hidden), nn.ReLU()
        )
        self.over_time = nn.Conv3d(hidden, hidden, (3, 1, 1), padding=(1, 0, 0))  # the order of steps counts
        learned = settings.proposals == "learned"
        self.proposals = ProposalHead(2 * hidden, hidden) if learned else None
        self.to_layout = nn.Conv2d(2 * hidden, LAYOUT, 1)
        self.layout = nn.Linear(LAYOUT * settings.pool**2, hidden)
        self.refine = nn.Linear(hidden, 4) if learned else None
        self.mix = nn.Linear(3 * hidden, hidden)
        self.classify = nn.Linear(hidden, num_classes)
        if self.refine is not None:  # boxes stay where they are until it is learned where to
            nn.init.zeros_(self.refine.weight)
            nn.init.zeros_(self.refine.bias)
        nn.init.constant_(self.classify.bias, math.log(ACTION_PRIOR / (1 - ACTION_PRIOR)))

    def forward(
        self,
        maps: Tensor,
        key_step: Tensor,
        boxes: Sequence[Tensor] | None = None,
        box_scores: Sequence[Tensor] | None = None,
    ) -> RoIOutput:
        """Boxes and their actions of maps (N, C, T, H, W) at key_step (N,), float, held within [0, T - 1].

        boxes: N of (B, 4), B from 0 on, each with its scores (B,) in box_scores (1 where there are none). None: the
        best `max_boxes` learned ones. Raises ValueError where boxes are needed and not given.
        """
        h = self.reduce(maps)  # (N, hidden, T, H, W)
        h = h + F.relu(self.over_time(h))
        context = torch.cat([_at(h, key_step), h.mean(dim=2)], dim=1)  # (N, 2 hidden, H, W)
        dense = None
        if boxes is None:
            if self.proposals is None:
                raise ValueError("this head learned no boxes (proposals is not `learned`): give it some")
            dense = self.proposals(context)
            found = propose(dense, nms_iou=self.settings.nms_iou, max_boxes=self.settings.max_boxes)
            boxes, box_scores = zip(*found, strict=True)
        elif box_scores is None:
            box_scores = [box.new_ones(len(box)) for box in boxes]
        flat, image = torch.cat(list(boxes)), _owners(boxes)
        layout = self.to_layout(context)  # (N, LAYOUT, H, W)
        actions, deltas = self._read(context, layout, flat, image)
        return RoIOutput(context, layout, dense, flat, torch.cat(list(box_scores)), image, actions, deltas)

    def _read(self, context: Tensor, layout: Tensor, boxes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the actions (R, K) and refinement (R, 4), 0 where none is learned, of boxes (R, 4)."""
        height, width = context.shape[-2:]
        cells = boxes * boxes.new_tensor([width, height, width, height])
        bins = roi_align(torch.cat([context, layout], dim=1), cells, image, size=self.settings.pool)
        most = bins[:, : context.shape[1]].amax(dim=(2, 3))  # (R, 2 hidden)
        where = F.relu(self.layout(bins[:, context.shape[1] :].flatten(1)))  # (R, hidden)
        mixed = F.relu(self.mix(torch.cat([most, where], dim=1)))  # (R, hidden)
        return self.classify(mixed), where.new_zeros(len(where), 4) if self.refine is None else self.refine(where)

    def loss(self, output: RoIOutput, targets: Sequence[KeyTargets]) -> Tensor:
        """The loss (N,) of each keyframe: of its actions, and of its boxes where they are learned.

        Actions: binary cross-entropy, the mean over the true boxes and those that overlap one by MATCH_IOU (they get
        the actions of the one they overlap most), summed over classes. Boxes: ProposalHead's loss, and 1 - GIoU of
        the refined ones, the mean over those that overlap a true box by MATCH_IOU.
        """
        shape = (output.context.shape[-2], output.context.shape[-1])
        truth = [target.box for target in targets]
        image, flat = _owners(truth), torch.cat(truth)
        known = torch.cat([target.actions for target in targets])  # (G', K) of all keyframes
        on_truth, _ = self._read(output.context, output.layout, flat, image)
        owner = _match(output, truth)  # (R,) into the G' true boxes, -1 for none
        mine = owner >= 0
        logits = torch.cat([on_truth, output.actions[mine]])
        wanted = torch.cat([known, known[owner[mine]]])
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
        loss = _mean_per_keyframe(entropy, torch.cat([image, output.image[mine]]), len(targets))
        if output.dense is None or self.proposals is None:
            return loss
        refined = _move(output.boxes[mine], output.deltas[mine])
        _, giou = overlap(refined, flat[owner[mine]])
        loss = loss + _mean_per_keyframe(1 - giou, output.image[mine], len(targets))
        return loss + self.proposals.loss(output.dense, truth, shape)

    @torch.no_grad()
    def decode(self, output: RoIOutput) -> list[KeyDetections]:
        """The detections of each keyframe: scores are those of the actions times that of the box.

        Learned boxes are refined, clipped to [0, 1] and suppressed, the surest first. Given boxes stay as they are, in
        their order, if their own score is `min_box_score` or more. Boxes whose every score is below `min_score` go.
        """
        learned = output.dense is not None
        boxes = _move(output.boxes, output.deltas).clamp(0, 1) if learned else output.boxes
        scores = output.actions.sigmoid() * output.box_score[:, None]  # (R, K)
        good = (scores >= self.settings.min_score).any(dim=1)
        if learned:
            good &= (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
        else:
            good &= output.box_score >= self.settings.min_box_score
        detections = []
        for n in range(len(output.context)):
            rows = torch.nonzero(good & (output.image == n))[:, 0]
            if learned:
                sure, found = output.box_score[rows].cpu().numpy(), boxes[rows].cpu().numpy()
                rows = rows[torch.from_numpy(nms(found, sure, iou=self.settings.nms_iou)).to(rows.device)]
            detections.append(KeyDetections(boxes[rows], scores[rows], output.box_score[rows]))
        return detections


def _at(maps: Tensor, step: Tensor) -> Tensor:
    """Maps (N, C, T, H, W) at a fractional step (N,): (N, C, H, W), linear between the two around it."""
    steps = maps.shape[2]
    step = step.to(maps.dtype).clamp(0, steps - 1)
    ramp = 1 - (step[:, None] - torch.arange(steps, device=maps.device)).abs()  # (N, T)
    return torch.einsum("ncthw,nt->nchw", maps, ramp.clamp(min=0))


def _owners(parts: Sequence[Tensor]) -> Tensor:
    """Which part each row of them all comes from, int64."""
    counts = torch.tensor([len(part) for part in parts])
    return torch.repeat_interleave(torch.arange(len(parts)), counts).to(parts[0].device)


def _match(output: RoIOutput, truth: Sequence[Tensor]) -> Tensor:
    """The true box (R,) int64, counted over all keyframes, that each box overlaps most; -1 below MATCH_IOU."""
    owner = torch.full_like(output.image, -1)
    first = 0
    for n, boxes in enumerate(truth):
        rows = torch.nonzero(output.image == n)[:, 0]
        if len(boxes) and len(rows):
            ious = iou_matrix(output.boxes[rows].detach().cpu().numpy(), boxes.cpu().numpy())  # (B, G)
            best = torch.from_numpy(ious.argmax(axis=1) + first)
            best[torch.from_numpy(ious.max(axis=1) < MATCH_IOU)] = -1
            owner[rows] = best.to(owner.device)
        first += len(boxes)
    return owner


def _mean_per_keyframe(values: Tensor, image: Tensor, num: int) -> Tensor:
    """The mean (num,) of the values (R,) of each keyframe; 0 for none."""
    total = values.new_zeros(num).index_add(0, image, values)
    return total / torch.bincount(image, minlength=num).clamp(min=1)


def _move(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (R, 4) after refinement: the parametrisation of R-CNN (Girshick et al.)."""
    side = boxes[:, 2:] - boxes[:, :2]
    center = boxes[:, :2] + side / 2 + deltas[:, :2] * side
    half = side * deltas[:, 2:].clamp(-MOST_GROWTH, MOST_GROWTH).exp() / 2
    return torch.cat([center - half, center + half], dim=1)


@register("roi")
def build_roi(settings: RoIHead, blocks: tuple[int, ...], num_classes: int) -> RoIDetector:
    return RoIDetector(settings, sum(blocks), num_classes)
