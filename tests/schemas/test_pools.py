import pytest
from pydantic import ValidationError

from schemas.pools import Pools


def test_what_is_not_said_is_left_to_the_cluster() -> None:
    pools = Pools.model_validate({"features": {"workers": 4, "gpus": 1}})
    assert (pools.features.workers, pools.features.gpus, pools.features.cpus) == (4, 1, None)
    assert pools.of("flow") == Pools().of("heads")
    assert (pools.flow.workers, pools.flow.cpus, pools.flow.gpus) == (None, None, None)


@pytest.mark.parametrize(
    ("pools", "problem"),
    [
        ({"clips": {"workers": 0}}, "greater than or equal to 1"),
        ({"features": {"gpus": 1.5}}, r"gpus: a share of one, such as 0.5, or a whole number, got 1.5"),
        ({"clips": {"gpus": 1}}, "clips.gpus: clips are decoded on CPUs, and 1 GPUs would lie idle"),
        ({"flow": {"cpus": 0}}, "flow.cpus: without a share of a CPU, nothing bounds"),
        ({"flows": {}}, "Extra inputs"),
        ({"flow": {"num_cpus": 1}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant(pools: dict, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Pools.model_validate(pools)
