"""What heads of temporal localization have in common: they turn a sequence of clips into scored, labelled segments.

    output = head(x, mask)                      # x: (N, T, D) float32, mask: (N, T) bool, True where a clip is
    loss = head.loss(output, targets, mask)     # (N,): one per video
    detections = head.decode(output, mask)      # one StepDetections per video, before non-maximum suppression

Time is counted in steps here: step t is the instant at the centre of feature t, the first being t = 0. What a step is
in seconds, where the video begins and ends, and suppression (pipeline/heads/soft_nms.py) are the caller's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class StepSegments:
    """The true segments of one video. Ends may lie between steps, or before the first and after the last.

    Raises ValueError where a column has another shape or dtype, or a segment does not end after its start.
    """

    span: Tensor  # (M, 2) float32: start and end, in steps
    label: Tensor  # (M,) int64

    def __post_init__(self) -> None:
        _check_columns(self.span, self.label)
        if not (self.span[:, 0] < self.span[:, 1]).all():  # also false for nan
            raise ValueError(f"segments must end after their start, got {self.span.tolist()}")

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str) -> StepSegments:
        return StepSegments(span=self.span.to(device), label=self.label.to(device))


@dataclass(frozen=True)
class StepDetections:
    """The detections of one video, best score first.

    Raises ValueError where a column has another shape or dtype.
    """

    span: Tensor  # (M, 2) float32: start and end, in steps
    score: Tensor  # (M,) float32, in [0, 1]
    label: Tensor  # (M,) int64

    def __post_init__(self) -> None:
        _check_columns(self.span, self.label)
        shape = tuple(self.score.shape)
        if self.score.shape != self.label.shape or self.score.dtype != torch.float32:
            raise ValueError(f"score must be float32 ({len(self.span)},), got {self.score.dtype} {shape}")

    def __len__(self) -> int:
        return len(self.label)


def _check_columns(span: Tensor, label: Tensor) -> None:
    if span.ndim != 2 or span.shape[1] != 2 or span.dtype != torch.float32:
        raise ValueError(f"span must be float32 (M, 2), got {span.dtype} {tuple(span.shape)}")
    if label.shape != span.shape[:1] or label.dtype != torch.int64:
        raise ValueError(f"label must be int64 ({len(span)},), got {label.dtype} {tuple(label.shape)}")


class TemporalHead(nn.Module, ABC):
    """Finds where in a sequence of clips which action happens.

    Legend: N videos, T clips (padded to the longest), D feature dimensions, M segments of one video, K classes.
    What stands in the padding never changes a number, not even nan, nor do the other videos of the batch. A video
    without segments, and one of a single clip, are fine; one without clips is not.
    """

    num_noise: int = 0  # uniform numbers that one video needs for its dropout masks

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None = None) -> Any:
        """What loss() and decode() take, for x (N, T, D) under mask (N, T); its structure is the head's own.

        `noise` (N, num_noise), uniform in [0, 1), switches dropout on (see SequenceHead for why it is handed in).
        """

    @abstractmethod
    def loss(self, output: Any, targets: Sequence[StepSegments], mask: Tensor) -> Tensor:
        """The loss of each video (N,), normalised by what is in that video alone."""

    @abstractmethod
    def decode(self, output: Any, mask: Tensor) -> list[StepDetections]:
        """The detections of each video, best score first, not yet suppressed.

        Each ends after its start. Ends may lie before the first step and after the last: a clip's frames do, too.
        """
