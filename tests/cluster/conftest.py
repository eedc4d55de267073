"""What the tests of clusters share: the modules beside them that are no tests, importable by their names."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    yield
    from victims import kill_left

    kill_left()
