import pytest

from jobs.plan_display import PLAIN, SIZES, TIMES, WORK, cluster_words, show, spread
from schemas.forecast import Cluster, Range


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


def test_a_cluster_in_words() -> None:
    assert cluster_words(Cluster(nodes=1, cores=1)) == "1 node of 1 core"
    assert cluster_words(Cluster(nodes=8, cores=32, gpus=1)) == "8 nodes of 32 cores and 1 GPU"
    two_kinds = Cluster(nodes=8, cores=32, gpus=4, gpu_nodes=2)
    assert cluster_words(two_kinds) == "8 nodes of 32 cores and 2 more with 4 GPUs each"
