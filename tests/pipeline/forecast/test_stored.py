"""Bytes that come once a unit are told from those of its items, on the real writers."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.forecast.stored import Stored, grown, line_of, sample_bytes, vector_bytes
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
    assert shard_bytes(sample_bytes(io.BytesIO(data))) == len(data)


def test_a_shard_of_one_sample_tells_what_one_of_many_takes() -> None:
    one, empty = shard(1), shard(0)
    ((_, span),) = sample_spans(io.BytesIO(one))
    unit = Stored(items=1, own=span.stop - span.start, rest=0)
    line = line_of([unit])
    assert [grown(unit, items, line) + len(empty) for items in (1, 2, 7, 100)] == [
        len(shard(items)) for items in (1, 2, 7, 100)
    ]
    assert 100 * (len(one) - len(empty)) < 0.8 * len(shard(100))  # the end of the tar has hidden a third of it


def vectors(rows: Sequence[np.ndarray]) -> bytes:
    """A file of features, two rows a video."""
    file = io.BytesIO()
    with VectorFile(file, feature_schema(len(rows[0]) if rows else 64, "{}")) as out:
        for number, vector in enumerate(rows):
            name = f"video-of-the-day-{number // 2:03d}"
            times_s = (number, number + 0.5, number + 1.0)
            clip = (f"{name}-{number:06d}", name, "center", *times_s, (1,), 0, 16, (0, 0, 8, 8), (8, 8))
            out.write(Row(*clip), vector)
        out.finish()
    return file.getvalue()


def stored(rows: Sequence[np.ndarray]) -> Stored:
    """As a probe has it."""
    data = vectors(rows)
    own = vector_bytes(io.BytesIO(data))
    return Stored(len(rows), own, len(data) - len(vectors([])) - own)


def noise(num_rows: int, *, num_zeros: int = 0, dim: int = 64) -> list[np.ndarray]:
    """Vectors that do not compress, but for the zeros at their end."""
    values = np.random.default_rng(num_rows).standard_normal((num_rows, dim)).astype(np.float32)
    values[:, dim - num_zeros :] = 0
    return list(values)


def test_what_a_file_of_features_holds_beside_its_rows() -> None:
    """From one row and from rows of eight videos together: what files of two rows take, of which there may be many."""
    one, many = stored(noise(1)), stored(noise(16))
    line = line_of([one, many])
    empty, two = len(vectors([])), len(vectors(noise(2)))
    assert line.fixed > 0.3 * (two - empty)
    assert empty + line.fixed + 2 * (line.slope + many.own / many.items) == pytest.approx(two, rel=0.03)


@pytest.mark.parametrize("num_zeros", [0, 3000])
def test_a_vector_that_compresses_well_or_badly_is_no_sign_of_what_comes_once(num_zeros: int) -> None:
    """The only file of one row is of a vector that is unlike the others; a third of theirs are zeros."""
    one, many = stored(noise(1, num_zeros=num_zeros, dim=4096)), stored(noise(12, num_zeros=1500, dim=4096))
    line = line_of([one, many])
    of_each = [vectors([vector]) for vector in noise(12, num_zeros=1500, dim=4096)]
    actual = sum(map(len, of_each)) / 12
    assert len(vectors([])) + line.fixed + line.slope + many.own / many.items == pytest.approx(actual, rel=0.02)


def test_the_bytes_of_vectors_are_theirs_alone() -> None:
    bare, named = vectors(noise(4)), vectors(noise(4, dim=128))
    of_bare, of_named = (vector_bytes(io.BytesIO(data)) for data in (bare, named))
    assert of_named - of_bare == pytest.approx(4 * 64 * 4, rel=0.1)  # what does not compress
    assert len(named) - of_named == pytest.approx(len(bare) - of_bare, abs=20)
    assert vector_bytes(io.BytesIO(vectors([]))) == 0


def test_units_of_equally_many_items_tell_nothing_of_what_is_beside_them() -> None:
    line = line_of([Stored(3, 0, 300.0), Stored(3, 0, 360.0), Stored(0, 0, 9.0)])
    assert (line.fixed, line.slope) == (0, pytest.approx(110))


def test_a_unit_without_items_stays_what_it_is() -> None:
    assert grown(Stored(0, 0, 17.0), 5.0, line_of([])) == 17.0
