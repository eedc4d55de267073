"""What the tests of features share: feature_dataset.py, and small_backbones.py of the backbones, importable by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.store import Store

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "backbones")]


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The models small_rgb and small_flow can be built; one thread, which is faster for them."""
    import torch

    from pipeline.backbones.registry import BACKBONES, Entry

    for modality in ("rgb", "flow"):
        monkeypatch.setitem(BACKBONES, f"small_{modality}", Entry("small_backbones", modality))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "dataset"))
