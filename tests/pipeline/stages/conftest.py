"""What the tests of features share: feature_dataset.py, and small_backbones.py of the backbones, importable by name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.store import Store
from schemas.receipt import Receipt
from schemas.work import UnitWork

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


@pytest.fixture
def metered() -> Callable[[Any, Callable[[], Receipt]], UnitWork]:
    """What a stage's meter says of the unit that is made; what must hold for each stage is checked here."""

    def work_of(stage: Any, make: Callable[[], Receipt]) -> UnitWork:
        stage.meter.begin()
        receipt = make()
        work = stage.meter.end(receipt)
        assert work.bytes_out == sum(entry.bytes for entry in receipt.files)
        assert 0 < work.reading_s + work.writing_s < work.wall_s
        assert work.cpu_s > 0
        assert work.device_s is None  # no GPU, no number
        return work

    return work_of
