"""Padding by hand."""

import numpy as np
import torch

from pipeline.training.padding import padded, shortest_first

MATRIX = np.arange(12, dtype=np.float32).reshape(6, 2)
OFFSETS = np.array([0, 1, 4, 6])


def test_sequences_stand_at_the_front_and_zeros_behind() -> None:
    x, mask = padded(MATRIX, OFFSETS, np.array([2, 0]))
    assert x.tolist() == [[[8, 9], [10, 11]], [[0, 1], [0, 0]]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert (x.dtype, mask.dtype) == (torch.float32, torch.bool)
    assert padded(MATRIX, OFFSETS, np.array([1]))[0].shape == (1, 3, 2)


def test_like_lengths_come_together_and_equals_keep_their_order() -> None:
    lengths = np.array([3, 1, 2, 1, 3])
    batches = list(shortest_first(np.array([4, 3, 2, 1, 0]), lengths, batch_size=2))
    assert [batch.tolist() for batch in batches] == [[3, 1], [2, 4], [0]]
    assert list(shortest_first(np.zeros(0, np.int64), lengths, batch_size=2)) == []
