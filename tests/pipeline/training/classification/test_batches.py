"""Batches: padded, masked, in an order that depends on (seed, epoch) only, and that splits over workers exactly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.classification.batches import Batch, eval_batches, train_batches
from pipeline.training.classification.dataset import HeadData
from pipeline.training.sequences import Sequences
from pipeline.training.task import Share

LENGTHS = np.array([3, 1, 4, 2, 5, 1, 2])
SPLITS = np.array(["train", "train", "val", "train", "train", "val", "train"])


@pytest.fixture
def data() -> HeadData:
    offsets = np.cumsum([0, *LENGTHS])
    matrix = np.random.default_rng(0).normal(size=(offsets[-1], 3)).astype(np.float32)
    ids = tuple(f"v{n}" for n in range(len(LENGTHS)))
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    sequences = Sequences(ids, matrix, offsets, (3,), np.zeros((len(matrix), 3)))
    return HeadData(ids, LENGTHS, labels, SPLITS, ((0, "a"), (1, "b")), (), sequences)


def batches(data: HeadData, *, epoch: int = 0, rank: int = 0, world_size: int = 1, **other: Any) -> list[Batch]:
    values = {"batch_size": 2, "seed": 0, "num_noise": 4, "first_step": 0} | other
    share = Share(values.pop("seed"), epoch, values.pop("first_step"), rank, world_size)
    return list(train_batches(data, share, **values))


def test_each_training_video_comes_once_an_epoch_whole_and_masked(data: HeadData) -> None:
    seen = []
    for batch in batches(data):
        for n, video in enumerate(batch.videos):
            clips = data.sequences.matrix[data.sequences.offsets[video] : data.sequences.offsets[video + 1]]
            np.testing.assert_array_equal(batch.x[n][batch.mask[n]].numpy(), clips)
            assert batch.mask[n].tolist() == [True] * len(clips) + [False] * (batch.x.shape[1] - len(clips))
            assert (batch.x[n][~batch.mask[n]] == 0).all()
            assert batch.targets[n] == data.labels[video]
        assert batch.x.shape[1] == LENGTHS[batch.videos].max()
        seen += batch.videos.tolist()
    assert sorted(seen) == [0, 1, 3, 4, 6]


def test_the_order_depends_on_seed_and_epoch_only(data: HeadData) -> None:
    def order(**settings: Any) -> list[int]:
        return [video for batch in batches(data, batch_size=1, **settings) for video in batch.videos.tolist()]

    torch.manual_seed(1)
    np.random.seed(1)
    first = order(epoch=3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert order(epoch=3) == first
    assert len({tuple(order(epoch=epoch)) for epoch in range(8)}) > 3
    assert len({tuple(order(seed=seed)) for seed in range(8)}) > 3


def test_noise_differs_between_steps_and_epochs(data: HeadData) -> None:
    rows = [row for epoch in (0, 1) for batch in batches(data, epoch=epoch) for row in batch.noise.tolist()]
    assert len({tuple(row) for row in rows}) == len(rows) == 10


def test_an_epoch_goes_on_at_the_batch_where_it_was_left(data: HeadData) -> None:
    whole, rest = batches(data), batches(data, first_step=1)
    assert [batch.videos.tolist() for batch in rest] == [batch.videos.tolist() for batch in whole[1:]]
    assert all(torch.equal(a.noise, b.noise) for a, b in zip(rest, whole[1:], strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_together_take_what_one_would(data: HeadData, world_size: int) -> None:
    alone = batches(data, batch_size=2)
    shares = [batches(data, batch_size=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(alone)}
    for step, whole in enumerate(alone):
        expected = {video: whole.noise[n].tolist() for n, video in enumerate(whole.videos.tolist())}
        found = {}
        for share in shares:
            part = share[step]
            assert part.total == len(whole.videos)
            for n, video in enumerate(part.videos.tolist()):
                if part.weights[n]:
                    assert video not in found
                    found[video] = part.noise[n].tolist()
        assert found == expected  # a worker without a row takes part with weight 0


def test_evaluation_takes_all_of_a_split_shortest_first(data: HeadData) -> None:
    found = list(eval_batches(data, data.videos_of("train"), batch_size=2))
    assert [batch.videos.tolist() for batch in found] == [[1, 3], [6, 0], [4]]
    assert all(batch.noise is None for batch in found)


def test_targets_of_several_labels(data: HeadData) -> None:
    rows = np.random.default_rng(1).random((len(LENGTHS), 2)) < 0.5
    multi = replace(data, labels=rows, kind="multi")
    for batch in batches(multi):
        assert batch.targets.dtype == torch.float32
        np.testing.assert_array_equal(batch.targets.numpy(), rows[batch.videos])
    of_clips = np.random.default_rng(2).random((LENGTHS.sum(), 3)) < 0.5
    dense = replace(data, labels=of_clips, kind="dense", classes=((0, "a"), (1, "b"), (2, "c")))
    for batch in batches(dense):
        assert batch.targets.dtype == torch.float32
        assert batch.targets.shape == (*batch.mask.shape, 3)
        np.testing.assert_array_equal(batch.targets[batch.mask].numpy(), of_clips[dense.rows_of(batch.videos)])
        assert (batch.targets[~batch.mask] == 0).all()
