"""Bytes that come once a unit are told from those of its items, on the real writers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from pipeline.forecast.stored import Stored, grown, line_of
from pipeline.shards import ShardWriter, sample_spans, shard_bytes
from pipeline.stages.feature_files import VectorFile
from pipeline.stages.feature_rows import Row
from schemas.features import feature_schema


def shard(num_samples: int, *, sample_bytes: int = 14_000) -> bytes:
    file = io.BytesIO()
    with ShardWriter(file) as writer:
        for number in range(num_samples):
            writer.add(f"video_{number:04d}", {"000.jpg": bytes(sample_bytes), "json": b"{}"})
    return file.getvalue()


@pytest.mark.parametrize("num_samples", [0, 1, 2, 3, 40])
def test_the_size_of_a_shard_follows_from_its_samples(num_samples: int) -> None:
    data = shard(num_samples)
    samples = sum(span.stop - span.start for _, span in sample_spans(io.BytesIO(data)))
    assert shard_bytes(samples) == len(data)


def test_a_shard_of_one_sample_tells_what_one_of_many_takes() -> None:
    one, empty = shard(1), shard(0)
    ((_, span),) = sample_spans(io.BytesIO(one))
    unit = Stored(items=1, samples=span.stop - span.start, rest=0)
    line = line_of([unit])
    assert [grown(unit, items, line) + len(empty) for items in (1, 2, 7, 100)] == [
        len(shard(items)) for items in (1, 2, 7, 100)
    ]
    assert 100 * (len(one) - len(empty)) < 0.8 * len(shard(100))  # the end of the tar has hidden a third of it


def vectors(folder: Path, num_rows: int) -> int:
    """The size of a file of features."""
    values = np.random.default_rng(0).standard_normal((num_rows, 64)).astype(np.float32)
    path = folder / f"{num_rows}.parquet"
    with path.open("wb") as file, VectorFile(file, feature_schema(64, "{}")) as out:
        for number, vector in enumerate(values):
            name = f"video-of-the-day-{number // 2:03d}"
            times_s = (number, number + 0.5, number + 1.0)
            clip = (f"{name}-{number:06d}", name, "center", *times_s, (1,), 0, 16, (0, 0, 8, 8), (8, 8))
            out.write(Row(*clip), vector)
        out.finish()
    return path.stat().st_size


def test_what_a_file_of_features_holds_beside_its_rows(tmp_path: Path) -> None:
    """From one row and from rows of eight videos together: what files of two rows take, of which there may be many."""
    sizes = {num_rows: vectors(tmp_path, num_rows) for num_rows in (0, 1, 2, 16)}
    line = line_of([Stored(rows, 0, sizes[rows] - sizes[0]) for rows in (1, 16)])
    assert line.fixed > 0.3 * (sizes[2] - sizes[0])
    assert sizes[0] + line.fixed + 2 * line.slope == pytest.approx(sizes[2], rel=0.02)


def test_units_of_equally_many_items_tell_nothing_of_what_is_beside_them() -> None:
    line = line_of([Stored(3, 0, 300.0), Stored(3, 0, 360.0), Stored(0, 0, 9.0)])
    assert (line.fixed, line.slope) == (0, pytest.approx(110))


def test_a_unit_without_items_stays_what_it_is() -> None:
    assert grown(Stored(0, 0, 17.0), 5.0, line_of([])) == 17.0
