import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.pairs import expand, pairs_of_same_key


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 4)))
def test_pairs_of_same_key(first: list[int], second: list[int]) -> None:
    rows, others = pairs_of_same_key(np.array(first, dtype=np.int64), np.array(second, dtype=np.int64))
    want = [(i, j) for i, one in enumerate(first) for j, other in enumerate(second) if one == other]
    assert list(zip(rows.tolist(), others.tolist(), strict=True)) == want


def test_expand() -> None:
    assert expand(np.array([5, 0, 2]), np.array([2, 0, 3])).tolist() == [5, 6, 2, 3, 4]
