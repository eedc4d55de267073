"""What a plan takes for granted is said."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.forecast.forecast import Probes, forecast
from pipeline.forecast.probe import BatchCost, ProductProbe, VideoCost
from pipeline.graph import Product
from pipeline.units import plan_units
from schemas.config import Config
from schemas.forecast import Cluster
from schemas.manifest import MANIFEST_SCHEMA


def probe_of(kind, name: str, *upstream: str, num_videos: int = 0, num_batches: int = 0) -> ProductProbe:
    return ProductProbe(
        product=Product(kind, name, {}, dict.fromkeys(upstream, ""), 1),
        device="cpu",
        cores_per_worker=1,
        card_s=0.0,
        open_s=0.0,
        open_cpu_s=0.0,
        unit_s=0.0,
        unit_cpu_s=0.0,
        unit_bytes=0.0,
        filled_bytes=0.0,
        files_per_unit=4,
        videos=tuple(VideoCost(n, 1.0, 1.0, 1.0, 1.0, 1.0) for n in range(num_videos)),
        batches=tuple(BatchCost(8, 8, 1.0 + n, 1.0, 1.0) for n in range(num_batches)),
        num_lost=0,
    )


@pytest.mark.parametrize(("num_batches", "is_said"), [(1, True), (2, False)])
def test_a_model_that_was_timed_on_one_batch_has_no_range_and_says_so(num_batches: int, is_said: bool) -> None:
    of_source = {"kind": "directory", "videos": "unused"}
    config = Config.model_validate({"dataset": "unused", "source": of_source, "clips": {"a": {"frames": 8, "fps": 8}}})
    rows = [{"video_id": f"v{n}", "uri": "/v", "labels": [], "label_ids": [], "bytes": 9} for n in range(4)]
    manifest = pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)
    products = probe_of("clips", "a", num_videos=4), probe_of("features", "c", "clips/a", num_batches=num_batches)
    probes = Probes(products, {"videos": np.ones(4)}, num_videos=4, took_s=1.0)
    units = plan_units(manifest, 1)
    found = forecast(probes, config, manifest, units, Cluster(nodes=1, cores=2), machine="m", rates={})
    about = found.products[1].worker_s
    assert (about.low == about.high) == is_said
    assert any("one batch" in line and "features/c" in line for line in found.assumptions) == is_said
