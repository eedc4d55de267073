"""The value types that heads of temporal localization exchange with their callers."""

from __future__ import annotations

import pytest
import torch

from pipeline.heads.temporal import StepDetections, StepSegments


def test_a_video_without_segments_is_fine() -> None:
    segments = StepSegments(span=torch.empty(0, 2), label=torch.empty(0, dtype=torch.int64))
    assert len(segments) == 0
    assert len(segments.to("cpu")) == 0


@pytest.mark.parametrize("span", [[3.0, 3.0], [4.0, 3.0], [float("nan"), 3.0]])
def test_a_segment_ends_after_its_start(span: list[float]) -> None:
    with pytest.raises(ValueError, match="must end after their start"):
        StepSegments(span=torch.tensor([span]), label=torch.tensor([0]))


def test_columns_of_another_shape_or_dtype_are_refused() -> None:
    span, label = torch.tensor([[0.0, 2.0]]), torch.tensor([1])
    with pytest.raises(ValueError, match=r"span must be float32 \(M, 2\), got torch.float64 \(1, 2\)"):
        StepSegments(span=span.double(), label=label)
    with pytest.raises(ValueError, match=r"label must be int64 \(1,\), got torch.int64 \(2,\)"):
        StepSegments(span=span, label=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"score must be float32 \(1,\), got torch.float32 \(2,\)"):
        StepDetections(span=span, score=torch.zeros(2), label=label)
    assert len(StepDetections(span=span, score=torch.zeros(1), label=label)) == 1
