"""clip_dataset.py, importable by name, and a dataset of it."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent)]

from clip_dataset import ClipDataset


@pytest.fixture
def clips(tmp_path: Path) -> ClipDataset:
    return ClipDataset(tmp_path / "data")
