import pytest

from jobs.quantities import PLAIN, SIZES, TIMES, WORK, duration, show, spread
from schemas.forecast import Range


@pytest.mark.parametrize(
    ("number", "scale", "words"),
    [
        (42, TIMES, "42 s"),
        (720, TIMES, "12 min"),
        (11_160, TIMES, "3.1 h"),
        (1_209_600, TIMES, "14 days"),
        (1_209_600, WORK, "336 h"),
        (512, SIZES, "0.51 kB"),
        (6.4e9, SIZES, "6.4 GB"),
        (3.25e15, SIZES, "3,250 TB"),
        (0.25, PLAIN, "0.25"),
    ],
)
def test_a_number_in_its_unit(number, scale, words) -> None:
    assert show(number, scale) == words


def test_a_range_has_one_unit() -> None:
    assert spread(Range(low=3000, value=6600, high=8000), TIMES) == "1.8 (0.83–2.2) h"
    assert spread(Range(low=6600, value=6600, high=6601), TIMES) == "1.8 h"
    assert spread(Range(low=60, value=66, high=70), WORK, "core-") == "66 (60–70) core-s"


def test_durations() -> None:
    assert [duration(s) for s in (9.4, 59.6, 252, 93784)] == ["9 s", "1 min 0 s", "4 min 12 s", "26 h 3 min"]
