import pytest

from pipeline.forecast.cluster import Hours, Load, bottleneck, cost, hours, opening_s, scaled
from pipeline.forecast.fit import certain
from schemas.forecast import Cluster, Range

CLIPS = Load("clips/a", "cpu", 1, certain(36_000), certain(36_000), 2.0, 100.0, None)
ON_CPU = Load("features/c", "cpu", 8, certain(18_000), certain(36_000), 5.0, 50.0, None)
ON_GPU = Load("features/c", "gpu", 0, certain(7200), certain(3600), 5.0, 50.0, None)


def why(loads, found, *, num_videos=1000, num_units=1000) -> str:
    return bottleneck(loads, found, num_videos=num_videos, num_units=num_units)


def wall_s(loads, cluster, **changes) -> Hours:
    return hours(loads, cluster, **{"num_units": 1000, "efficiency": 1.0, "before_s": 0.0} | changes)


def test_cores_are_shared_by_all_that_runs_on_them() -> None:
    found = wall_s([CLIPS, ON_CPU], Cluster(nodes=2, cores=32))
    work_s = (36_000 + 8 * 18_000) / 64
    way_s = (100 + 50 * 8 / 32) * (1 - 1 / 64)  # a model of 8 cores has 32 there
    assert found.limited_by == "cores"
    assert found.wall_s.value == pytest.approx(work_s + 5 + 0.5 * way_s)
    assert found.wall_s.low == pytest.approx(work_s + 5)
    assert found.wall_s.high == pytest.approx(work_s + 5 + way_s)
    assert "features/c is 80% of their work" in why([CLIPS, ON_CPU], found)


def test_a_gpu_that_is_busy_longer_decides() -> None:
    found = wall_s([CLIPS, ON_GPU], Cluster(nodes=10, cores=32, gpus=1))
    assert found.limited_by == "gpus"
    assert found.wall_s.low == pytest.approx(720 + 5)
    assert "more GPUs" in why([CLIPS, ON_GPU], found)
    few_cores = wall_s([CLIPS, ON_GPU], Cluster(nodes=10, cores=2, gpus=1))
    assert few_cores.limited_by == "cores"
    assert few_cores.wall_s.low == pytest.approx((36_000 + 3600) / 20 + 5)


def test_gpu_nodes_feed_their_gpus_by_themselves() -> None:
    cluster = Cluster(nodes=10, cores=32, gpu_nodes=1, gpus=8, price=1, gpu_price=20)
    assert cluster.num_gpus == 8
    assert cluster.price_per_hour == 30
    assert wall_s([CLIPS, ON_GPU], cluster).limited_by == "gpus"
    slow_feed = Load("features/c", "gpu", 0, certain(72), certain(36_000), 5.0, 50.0, None)
    assert wall_s([CLIPS, slow_feed], cluster).limited_by == "gpu-cores"


def test_a_pool_bounds_its_products() -> None:
    pooled = Load("clips/a", "cpu", 1, certain(36_000), certain(36_000), 2.0, 100.0, workers=8)
    found = wall_s([pooled], Cluster(nodes=10, cores=32))
    assert found.wall_s.low == pytest.approx(36_000 / 8 + 2)
    assert "pools.clips.workers" in why([pooled], found)


def test_few_units_leave_cores_idle() -> None:
    found = wall_s([CLIPS], Cluster(nodes=10, cores=32), num_units=20)
    assert found.wall_s.low == pytest.approx(36_000 / 20 + 2)
    assert "units.videos_per_unit below 4 shortens" in why([CLIPS], found, num_videos=70, num_units=20)
    assert "none can be smaller" in why([CLIPS], found, num_videos=20, num_units=20)


def test_a_short_run_is_starting_up() -> None:
    short = Load("clips/a", "cpu", 1, certain(10), certain(10), 20.0, 1.0, None)
    assert "starting up" in why([short], wall_s([short], Cluster(nodes=1, cores=2)))


def test_efficiency_stretches_the_work_and_not_the_start() -> None:
    found = wall_s([CLIPS], Cluster(nodes=1, cores=10), efficiency=0.5, before_s=30)
    assert found.wall_s.low == pytest.approx(2 * 3600 + 30 + 2)


def test_workers_open_every_stage_in_turn() -> None:
    flow = Load("flow/f", "cpu", 1, certain(1), certain(1), 4.0, 1.0, None)
    assert opening_s([CLIPS, flow]) == 6
    assert opening_s([CLIPS, ON_GPU]) == 5
    assert opening_s([]) == 0


def test_more_nodes_cost_the_same_until_the_end_decides() -> None:
    found = scaled([CLIPS], Cluster(nodes=1, cores=10, price=2), num_units=1000, efficiency=1.0, before_s=0)
    assert [one.nodes for one in found] == [1, 2, 4, 8]
    times = [one.wall_s.value for one in found]
    assert times == sorted(times, reverse=True)
    costs = [one.cost.value for one in found if one.cost]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(times[0] / 3600 * 2)


def test_no_price_no_cost() -> None:
    hour = Range(low=3600, value=3600, high=3600)
    assert cost(hour, Cluster(nodes=1, cores=1)) is None
    assert cost(hour, Cluster(nodes=1, cores=1, price=1, gpu_nodes=1, gpus=1)) is None
    assert cost(hour, Cluster(nodes=3, cores=1, price=1)) == Range(low=3, value=3, high=3)
