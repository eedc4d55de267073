"""clip_dataset.py, importable by name, and a dataset of it."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent)]


@pytest.fixture
def clips(tmp_path: Path) -> Any:
    from clip_dataset import ClipDataset

    return ClipDataset(tmp_path / "data")
