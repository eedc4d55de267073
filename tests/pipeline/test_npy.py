"""Arrays and their bytes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from pipeline.npy import from_npy, to_npy


def test_there_and_back_and_as_numpy_reads_it() -> None:
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    data = to_npy(array)
    for found in (from_npy(data), np.load(BytesIO(data))):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert to_npy(array.copy()) == data


def test_damage_is_a_value_error_wherever_it_is() -> None:
    data = to_npy(np.arange(6, dtype=np.uint8))
    for place in range(len(data)):
        for value in (0, ord("("), ord("9"), 255):
            damaged = bytearray(data)
            damaged[place] = value
            try:
                from_npy(bytes(damaged))
            except ValueError:
                pass
    with pytest.raises(ValueError, match="header"):
        from_npy(data[:40].replace(b"'", b"("))


def test_nothing_is_unpickled() -> None:
    buffer = BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        from_npy(buffer.getvalue())
