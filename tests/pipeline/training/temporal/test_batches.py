"""Batches of videos: padded at the end, in an order that workers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.task import Share
from pipeline.training.temporal.batches import eval_batches, train_batches
from pipeline.training.temporal.dataset import TemporalData


@pytest.fixture
def data(dataset: Any, make_segment_task: Callable[..., Any], head_of: Any, load: Any) -> TemporalData:
    dataset.write(make_segment_task(24, splits=("train", "train", "val")))
    return load(head_of())


def test_a_batch_holds_its_videos_and_zeros(data: TemporalData) -> None:
    (batch,) = eval_batches(data, np.array([5, 2, 9]), batch_size=3)
    assert batch.videos.tolist() == sorted([5, 2, 9], key=lambda video: (data.lengths[video], video))
    assert batch.x.shape == (3, data.lengths[batch.videos].max(), 8)
    assert batch.mask.sum(dim=1).tolist() == data.lengths[batch.videos].tolist()
    assert (batch.x[~batch.mask] == 0).all()
    assert batch.noise is None
    for row, video in enumerate(batch.videos):
        steps = torch.from_numpy(data.matrix[data.offsets[video] : data.offsets[video + 1]])
        assert torch.equal(batch.x[row, : len(steps)], steps)
        assert batch.targets[row] is data.segments[video]


def test_evaluation_has_each_video_once(data: TemporalData) -> None:
    videos = data.videos_of("val")
    batches = list(eval_batches(data, videos, batch_size=3))
    assert sorted(np.concatenate([batch.videos for batch in batches]).tolist()) == videos.tolist()
    assert [len(batch.videos) for batch in batches] == [3, 3, 2]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_what_one_would_do(data: TemporalData, workers: int) -> None:
    alone = list(train_batches(data, Share(7, 2), batch_size=5, num_noise=4))
    assert sorted(np.concatenate([batch.videos for batch in alone]).tolist()) == data.videos_of("train").tolist()
    shares = [Share(7, 2, rank=rank, world_size=workers) for rank in range(workers)]
    together = zip(*(train_batches(data, share, batch_size=5, num_noise=4) for share in shares), strict=True)
    for whole, parts in zip(alone, together, strict=True):
        assert whole.noise is not None
        found: dict[int, torch.Tensor] = {}
        for part in parts:
            assert part.total == whole.total == len(whole.videos)
            assert part.noise is not None
            found |= {int(v): n for v, n, w in zip(part.videos, part.noise, part.weights, strict=True) if w}
        assert set(found) == set(whole.videos.tolist())
        assert all(torch.equal(found[int(v)], noise) for v, noise in zip(whole.videos, whole.noise, strict=True))


def test_an_epoch_goes_on_from_any_batch(data: TemporalData) -> None:
    whole = [batch.videos.tolist() for batch in train_batches(data, Share(1, 0), batch_size=5, num_noise=0)]
    rest = [batch.videos.tolist() for batch in train_batches(data, Share(1, 0, 2), batch_size=5, num_noise=0)]
    assert rest == whole[2:]
