"""What the tests of safety share: payload.py beside them, importable by its name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """The file that a payload would make. None is there when the test ends."""
    path = tmp_path / "payload-was-run"
    yield path
    assert not path.exists(), "the payload was run"
