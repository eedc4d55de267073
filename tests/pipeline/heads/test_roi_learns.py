"""The RoI detector learns who does what where on made-up maps: actors are bumps, actions directions of channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.boxes import iou_matrix
from pipeline.heads import build
from pipeline.heads.roi import KeyDetections, KeyTargets, RoIDetector
from schemas.annotation_files import TubesAnnotations
from schemas.heads import RoIHead

CHANNELS, STEPS, HEIGHT, WIDTH, NUM_CLASSES = 32, 4, 9, 11, 4


class Scenes(NamedTuple):
    maps: Tensor  # (N, C, T, H, W)
    key_step: Tensor  # (N,)
    targets: list[KeyTargets]


def draw_scenes(num: int, seed: int, *, noise: float) -> Scenes:
    """One to three actors a keyframe, 0.3 to 0.85 of the view's height, some cut by its border, moving, overlapping
    by an IoU of up to 0.4; each does one action or two."""
    directions = np.random.default_rng(99).standard_normal((NUM_CLASSES + 1, CHANNELS)) / 2
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((num, CHANNELS, STEPS, HEIGHT, WIDTH)) * noise
    key_step = rng.uniform(0, STEPS - 1, num)
    targets = []
    for n in range(num):
        boxes, actions = np.zeros((0, 4)), np.zeros((0, NUM_CLASSES))
        for _ in range(rng.integers(1, 4)):
            center, speed = rng.uniform([0, 0.25], [1, 0.75]), rng.uniform(-0.06, 0.06)
            height = rng.uniform(0.3, 0.85)
            side = np.array([height * rng.uniform(0.3, 0.7), height])
            box = np.concatenate([center - side / 2, center + side / 2]).clip(0, 1)
            too_near = len(boxes) and iou_matrix(box[None], boxes).max() > 0.4
            if too_near or np.prod(box[2:] - box[:2]) < np.prod(side) / 2:
                continue
            does = np.zeros(NUM_CLASSES)
            does[rng.integers(0, NUM_CLASSES, 2)] = 1
            for step in range(STEPS):
                moved = center + np.array([speed * (step - key_step[n]), 0])
                bump = _bump(moved, side)
                maps[n, :, step] += (directions[0] + does @ directions[1:])[:, None, None] * bump
            boxes, actions = np.vstack([boxes, box]), np.vstack([actions, does])
        targets.append(KeyTargets(torch.from_numpy(boxes).float(), torch.from_numpy(actions).float()))
    return Scenes(torch.from_numpy(maps).float(), torch.from_numpy(key_step).float(), targets)


def _bump(center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Near 1 within the box, falling off across its edge, (H, W)."""
    y, x = (np.arange(HEIGHT) + 0.5) / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH
    away_x, away_y = np.abs(x - center[0]) / (side[0] / 2), np.abs(y - center[1]) / (side[1] / 2)
    return 1 / (1 + away_x[None, :] ** 4 + away_y[:, None] ** 4)


def trained(scenes: Scenes, *, hidden: int, epochs: int, batch_size: int = 8) -> RoIDetector:
    section = RoIHead(
        kind="roi", features=("maps",), annotations=TubesAnnotations(kind="tubes", path="tubes"), hidden=hidden
    )
    head = build(section, blocks=(CHANNELS,), num_classes=NUM_CLASSES, seed=0)
    assert isinstance(head, RoIDetector)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    steps = epochs * (len(scenes.targets) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(scenes.targets), generator=generator).split(batch_size):
            output = head(scenes.maps[rows], scenes.key_step[rows])
            loss = head.loss(output, [scenes.targets[row] for row in rows.tolist()]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    return head


@torch.no_grad()
def frame_map(head: RoIDetector, scenes: Scenes, *, true_boxes: bool = False) -> float:
    """The mean over classes of average precision at an IoU of 0.5."""
    boxes = [target.box for target in scenes.targets] if true_boxes else None
    found = head.decode(head(scenes.maps, scenes.key_step, boxes))
    return float(np.mean([_average_precision(found, scenes.targets, label) for label in range(NUM_CLASSES)]))


def _average_precision(found: list[KeyDetections], targets: list[KeyTargets], label: int) -> float:
    ranked, num_true = [], 0
    for detections, target in zip(found, targets, strict=True):
        truth = target.box[target.actions[:, label] > 0].numpy()
        num_true += len(truth)
        free = np.ones(len(truth), dtype=bool)
        scores = detections.score[:, label].numpy()
        for row in np.argsort(-scores, kind="stable"):
            overlaps = iou_matrix(detections.box[row : row + 1].numpy(), truth)[0] * free
            hit = len(truth) > 0 and overlaps.max() >= 0.5
            if hit:
                free[overlaps.argmax()] = False
            ranked.append((-scores[row], hit))
    hits = np.array([hit for _, hit in sorted(ranked, key=lambda pair: pair[0])])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * hits).sum() / num_true)


def test_it_can_learn_a_few_keyframes_by_heart() -> None:
    scenes = draw_scenes(8, 0, noise=0.5)
    head = trained(scenes, hidden=32, epochs=60)
    assert frame_map(head, scenes) > 0.95
    assert frame_map(head, scenes, true_boxes=True) > 0.95


@pytest.mark.slow
def test_it_finds_actors_and_actions_it_has_not_seen() -> None:
    head = trained(draw_scenes(400, 1, noise=0.5), hidden=64, epochs=10)
    fresh = draw_scenes(150, 2, noise=0.5)
    assert frame_map(head, fresh) > 0.8
    assert frame_map(head, fresh, true_boxes=True) > 0.95
