import numpy as np
import pytest

from pipeline.stages.feature_rows import Row
from pipeline.verify.agreement import Origin, agreement

KEY = ("clip", "center", 0.0)
ROW = Row("clip", "video", "center", 0.0, 0.5, 1.0, (), 0, 4, (0, 0, 8, 8), (8, 8))


def test_agreement() -> None:
    a = np.array([3.0, 4.0], np.float32)
    found = agreement(a, 2 * a)
    assert (found.cosine, found.length) == (pytest.approx(1), pytest.approx(2))
    assert agreement(a, np.array([-4.0, 3.0])).cosine == pytest.approx(0)
    assert agreement(0 * a, 0 * a).cosine == 1
    assert agreement(a, 0 * a).cosine == 0
    assert np.isnan(agreement(a, np.array([np.nan, 1])).cosine)


@pytest.mark.parametrize(
    ("again", "sentence"),
    [
        ([1.0, 0.0], "cosine 0.600000 to the row made again from videos, under 0.999"),
        ([np.nan, 0.0], "cosine nan to the row made again from videos, under 0.999"),
        ([6.0, 8.0], "the row made again from videos is 2.000 times as long: the input had another scale"),
        ([3.0, 4.0, 0.0], "its shape is (2,), and videos give (3,)"),
    ],
)
def test_each_row_that_is_off_is_named(again: list[float], sentence: str) -> None:
    origin = Origin("videos", 0.999)
    origin.compare({KEY: np.array([3.0, 4.0])}, iter([(ROW, np.array(again))]))
    assert origin.faults == [f"clip clip, view center, from 0 s: {sentence}"]
    assert origin.num_off == 1


def test_rows_within_the_bound_are_counted() -> None:
    origin = Origin("videos", 0.999)
    origin.compare({KEY: np.array([3.0, 4.0])}, iter([(ROW, np.array([3.05, 3.95]))]))
    assert (origin.faults, origin.num_off, len(origin.cosines)) == ([], 0, 1)
    other = Origin("clips/c", 0.999)
    other.take_over("clip", origin)
    assert other.cosines == origin.cosines


def test_a_row_that_is_not_stored() -> None:
    origin = Origin("videos", 0.999)
    origin.compare({}, iter([(ROW, np.ones(2))]))
    assert origin.faults == ["clip clip, view center, from 0 s: videos give this row, and it is not stored"]
