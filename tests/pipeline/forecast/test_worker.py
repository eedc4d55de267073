"""A worker's first item is not timed: what is loaded and compiled for it belongs to opening."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.forecast.bench import Bench, lay_out
from pipeline.forecast.sample import Picked
from pipeline.forecast.worker import Workers
from pipeline.graph import Product
from pipeline.stages import CODE_VERSIONS
from pipeline.synth import SynthSpec, make_dataset
from schemas.config import Clips, Limits
from schemas.manifest import MANIFEST_SCHEMA

SPEC = Clips(frames=4, fps=4, resize=(32, 32))
PRODUCT = Product("clips", "a", SPEC.model_dump(mode="json"), {}, CODE_VERSIONS["clips"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    make_dataset(tmp_path / "made", SynthSpec(num_classes=1, videos_per_class=2, duration_s=2.0))
    uris = [str(path) for path in sorted((tmp_path / "made/trimmed/videos").rglob("*.mp4"))]
    rows = [{"video_id": f"v{n}", "uri": uri, "labels": [], "label_ids": [], "bytes": 9} for n, uri in enumerate(uris)]
    table = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    picked = [Picked(row, 1.0) for row in range(len(rows))]
    (tmp_path / "bench").mkdir()
    folder = str(tmp_path / "bench")
    return lay_out(folder, table, picked, clips=[SPEC], rounds=1, lengths_s=lambda uris: [2.0] * len(uris))


def test_a_worker_is_warm_when_something_has_come_of_a_unit(bench: Bench) -> None:
    """Of what only fails, nothing is compiled: the first video would pay for it, and be scaled up to all others."""
    first, second = bench.units("whole")
    with Workers(PRODUCT, bench.store, Limits(), count=1, warm=[*bench.none, first, second]) as workers:
        assert (workers.warmed.unit, workers.warmed.items > 0) == (first.index, True)
        assert workers.open_cpu_s > 0  # at least a decoder was started
        (timed,) = workers.run([second], budget_s=0, at_least=1)
        assert timed.unit == second.index


def test_where_nothing_comes_of_any_unit_the_worker_is_opened_all_the_same(bench: Bench) -> None:
    with Workers(PRODUCT, bench.store, Limits(), count=1, warm=bench.none) as workers:
        assert workers.warmed.items == 0
        assert workers.open_s > 0
