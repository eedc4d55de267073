"""The arithmetic from made-up probes to a manifest of a thousand videos."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.forecast.predict import Whole, manifest_of, predict, product_forecast, puts, sizes_of
from pipeline.forecast.probe import BatchCost, ProductProbe, VideoCost
from pipeline.graph import Product, Unit
from pipeline.units import plan_units
from schemas.errors import ReelmillError
from schemas.manifest import MANIFEST_SCHEMA, SEGMENT_FIELDS
from schemas.pools import Pools

BYTES = [1000 * (1 + n % 7) for n in range(1000)]


def manifest(**columns: list) -> pa.Table:
    rows = {field.name: [None] * 1000 for field in MANIFEST_SCHEMA} | {
        "video_id": [f"v{n:04d}" for n in range(1000)],
        "uri": ["/v.mp4"] * 1000,
        "labels": [[]] * 1000,
        "label_ids": [[]] * 1000,
        "bytes": BYTES,
    }
    extra = [field for field in SEGMENT_FIELDS if field.name in columns]
    return pa.Table.from_pydict(rows | columns, schema=pa.schema([*MANIFEST_SCHEMA, *extra]))


def product(kind, name, *upstream: str) -> Product:
    return Product(kind, name, {}, dict.fromkeys(upstream, ""), 1)


def clips_probe(**changes) -> ProductProbe:
    """0.2 s and 0.1 ms a byte for each video, 3 clips, 10 bytes for each of its own; a unit costs 0.5 s besides."""
    videos = [
        VideoCost(
            video=n,
            weight=100,
            worker_s=0.2 + 1e-4 * size,
            cpu_s=0.1 + 1e-4 * size,
            items=3.0,
            num_bytes=10.0 * size,
        )
        for n, size in enumerate(SAMPLE["bytes"])
    ]
    of = {"device": "cpu", "cores_per_worker": 1, "card_s": 1.0, "open_s": 2.0, "unit_s": 0.5, "unit_cpu_s": 0.25}
    of |= {"open_cpu_s": 1.5}
    of |= {
        "unit_bytes": 2000,
        "filled_bytes": 0.0,
        "files_per_unit": 4,
        "videos": tuple(videos),
        "batches": (),
        "num_lost": 0,
    }
    return ProductProbe(**{"product": product("clips", "a")} | of | changes)


SAMPLE = {"videos": np.ones(5), "bytes": np.array([1000.0, 2000, 4000, 6000, 7000])}


def features_probe(**changes) -> ProductProbe:
    """0.4 s for each clip on all of 8 cores, and two rows of 100 bytes."""
    batches = [BatchCost(clips=n, rows=2 * n, worker_s=0.4 * n, cpu_s=3.0 * n, num_bytes=200 * n) for n in (30, 40)]
    changes = {"cores_per_worker": 8, "videos": (), "batches": tuple(batches)} | changes
    return clips_probe(product=product("features", "c", "clips/a"), **changes)


def units() -> list[Unit]:
    return plan_units(manifest(), 10)


def wholes(*probes: ProductProbe, rates=(), pools: Pools | None = None) -> list[Whole]:
    found = manifest_of(manifest(), units())
    return predict(probes, SAMPLE, found, rates=dict(rates), pools=pools or Pools())


def test_flow_goes_by_clips_though_the_shortest_video_moves_most() -> None:
    """Of these five videos alone one would take that a video's flow costs the same whatever its length."""
    lengths = np.array(SAMPLE["bytes"]) / 1000
    of_clips = [VideoCost(n, 100, 1e-3, 1e-3, length, 10.0) for n, length in enumerate(lengths)]
    of_flow = [VideoCost(n, 100, 12.0, 11.0, length, 50 * length) for n, length in enumerate(lengths)]
    lost = VideoCost(5, 100, 0.1, 0.1, 0.0, 0.0)  # a video without a clip
    sample = {"videos": np.ones(6), "bytes": np.append(SAMPLE["bytes"], 3000.0)}
    clips, flow = predict(
        [
            clips_probe(videos=(*of_clips, lost)),
            clips_probe(product=product("flow", "f", "clips/a"), videos=(*of_flow, lost)),
        ],
        sample,
        manifest_of(manifest(), units()),
        rates={},
        pools=Pools(),
    )
    assert flow.grows_with == "clips"
    assert flow.load.worker_s.value == pytest.approx(clips.items.value * 5 * 12 / lengths.sum() + 0.5 * 100)
    assert flow.items.value == pytest.approx(clips.items.value)
    assert flow.num_bytes.value == pytest.approx(50 * clips.items.value + 2000 * 100)


def test_clips_of_the_whole_manifest() -> None:
    (clips,) = wholes(clips_probe())
    assert clips.grows_with == "bytes"
    assert clips.load.worker_s.value == pytest.approx(0.2 * 1000 + 1e-4 * sum(BYTES) + 0.5 * 100)
    assert clips.load.cpu_s.value == pytest.approx(0.1 * 1000 + 1e-4 * sum(BYTES) + 0.25 * 100)
    assert clips.items.value == pytest.approx(3000)
    assert clips.num_bytes.value == pytest.approx(10 * sum(BYTES) + 2000 * 100)
    assert clips.objects == 4 * 100 + 1
    largest = max(sum(BYTES[start : start + 10]) for start in range(0, 1000, 10))
    assert clips.load.largest_unit_s == pytest.approx(0.2 * 10 + 1e-4 * largest + 0.5)


def test_features_follow_from_their_clips() -> None:
    _, features = wholes(clips_probe(), features_probe())
    assert features.load.worker_s.value == pytest.approx(0.4 * 3000 + 0.5 * 100)
    assert features.load.core_s.value == pytest.approx(8 * (0.4 * 3000 + 0.5 * 100))
    assert features.items.value == pytest.approx(6000)
    assert features.num_bytes.value == pytest.approx(200 * 3000 + 2000 * 100)
    assert features.load.largest_unit_s == pytest.approx(0.4 * 30 + 0.5)


def test_what_a_file_of_features_holds_beside_its_rows_is_counted_once_a_unit() -> None:
    _, features = wholes(clips_probe(), features_probe(filled_bytes=1500.0))
    assert features.num_bytes.value == pytest.approx(200 * 3000 + (2000 + 1500) * 100)


def test_units_whose_videos_are_all_lost_hold_no_rows() -> None:
    """One video in five gives nothing; of units of two, one in twenty-five holds no rows."""
    videos = [VideoCost(n, 1.0, 1.0, 1.0, 0.0 if n == 2 else 5.0, 100.0) for n in range(5)]
    for num_videos, share in ((1, 4 / 5), (2, 24 / 25)):
        found = manifest_of(manifest(), plan_units(manifest(), num_videos))
        probes = [clips_probe(videos=tuple(videos)), features_probe(filled_bytes=1500.0)]
        _, features = predict(probes, SAMPLE, found, rates={}, pools=Pools())
        num_units = 1000 / num_videos
        rows_bytes = 200 * features.items.value / 2
        assert features.num_bytes.value == pytest.approx(rows_bytes + num_units * (2000 + share * 1500))


def test_a_rate_that_was_given_takes_the_place_of_what_was_measured() -> None:
    given = features_probe(device="gpu", cores_per_worker=0, unit_s=0.0, unit_cpu_s=0.0)
    _, features = wholes(clips_probe(), given, rates={"c": 300.0})
    assert features.load.worker_s.value == pytest.approx(3000 / 300)
    assert features.load.cpu_s.value == 0
    assert product_forecast(features).source == "given"
    assert features.num_bytes.value == pytest.approx(200 * 3000 + 2000 * 100)


def test_features_of_nothing_are_refused() -> None:
    with pytest.raises(ReelmillError, match="features/c: not one clip"):
        wholes(clips_probe(), features_probe(batches=()))


def test_a_pool_is_carried_along() -> None:
    (clips,) = wholes(clips_probe(), pools=Pools.model_validate({"clips": {"workers": 7}}))
    assert product_forecast(clips).workers == 7


def test_what_a_manifest_tells() -> None:
    assert set(sizes_of(manifest())) == {"videos", "bytes"}
    assert set(sizes_of(manifest(bytes=[None, *BYTES[1:]]))) == {"videos"}
    ends = sizes_of(manifest(start_s=[None] * 500 + [2.0] * 500, end_s=[10.0] * 1000))
    assert ends["seconds"].tolist() == [10.0] * 500 + [8.0] * 500
    segments = sizes_of(manifest(segment_start_s=[[1.0, 2.0]] * 999 + [[]]))
    assert segments["segments"].tolist() == [2.0] * 999 + [0.1]


def test_a_manifest_without_sizes_goes_by_videos() -> None:
    found = manifest_of(manifest(bytes=[None] * 1000), units())
    (clips,) = predict([clips_probe()], SAMPLE, found, rates={}, pools=Pools())
    assert clips.grows_with == "videos"
    mean_s = np.mean([0.2 + 1e-4 * size for size in SAMPLE["bytes"]])
    assert clips.load.worker_s.value == pytest.approx(1000 * mean_s + 50)


def test_what_workers_load_is_told_apart_from_work() -> None:
    few, many = (product_forecast(wholes(clips_probe(open_cpu_s=open_cpu_s))[0]) for open_cpu_s in (1.5, 90.0))
    assert (few.open_cpu_s, many.open_cpu_s) == (1.5, 90.0)
    assert few.cpu_s == many.cpu_s


def test_large_files_are_written_in_parts() -> None:
    small = wholes(clips_probe())
    assert puts(small, 100) == 401
    large = wholes(clips_probe(unit_bytes=25 << 20))
    assert puts(large, 100) == 401 + 100 * (3 + 1)


def test_a_task_that_asks_for_two_cores_takes_two() -> None:
    one, two = (wholes(clips_probe(), pools=Pools.model_validate(pools)) for pools in ({}, {"clips": {"cpus": 2}}))
    assert two[0].load.core_s.value == pytest.approx(2 * one[0].load.core_s.value)
