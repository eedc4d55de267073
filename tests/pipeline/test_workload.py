"""A run's shares, from made-up news at made-up moments."""

import pytest

from pipeline.workload import Workload
from schemas.news import Began, GaveUp, Progress, Started
from schemas.work import NodeRecord, PoolRecord, UnitWork

TASKS = PoolRecord(workers=None, cpus=1)
ACTOR = PoolRecord(workers=1, cpus=0, holds=True)


def work(product: str, unit: int, wall_s: float, **changes) -> UnitWork:
    given = {"reading_s": 0.0, "writing_s": 0.0, **changes}
    busy_s = wall_s - given["reading_s"] - given["writing_s"]
    return UnitWork(product=product, unit=unit, node="n", pid=1, wall_s=wall_s, busy_s=busy_s, **given)


def node(cpus: float, *, gpus: float = 0, **labels: str) -> NodeRecord:
    return NodeRecord(name="n", address="", cpus=cpus, gpus=gpus, labels=labels)


class Run:
    """Two cores; clips as tasks, features as one actor."""

    def __init__(self, pools=None) -> None:
        self.workload = Workload(now_s=90.0, fingerprints={"clips/a": "f"})
        self.workload.capacity([node(2)], now_s=91.0)
        self.workload.hear(Started(pools or {"clips/a": TASKS, "features/b": ACTOR}), now_s=100.0)

    def unit(self, product: str, unit: int, began_s: float, ended_s: float, **changes) -> None:
        self.workload.hear(Began(product, unit, "n"), now_s=began_s)
        cost = work(product, unit, ended_s - began_s, **changes)
        self.workload.hear(Progress(product, unit, 8, 1, cost), now_s=ended_s)


def test_time_is_shared_out_to_the_second() -> None:
    run = Run()
    run.unit("clips/a", 0, 100, 110, writing_s=2.0)
    run.unit("clips/a", 1, 100, 120, reading_s=5.0)
    run.unit("features/b", 0, 110, 114)
    run.unit("features/b", 1, 120, 124, device_s=3.0)
    made = run.workload.products(now_s=130.0)
    clips, features = made["clips/a"], made["features/b"]
    # clips: of two cores, one had nothing from 110 on until its last unit at 120
    assert (clips.busy_s, clips.reading_s, clips.writing_s, clips.idle_s) == (23.0, 5.0, 2.0, pytest.approx(10.0))
    assert clips.held_s == pytest.approx(40.0)
    assert clips.wall_s == 20.0
    # the actor was there from 100 until 124, and worked for 8 s of it
    assert (features.busy_s, features.idle_s, features.held_s) == (8.0, pytest.approx(16.0), pytest.approx(24.0))
    assert features.device_s == 3.0
    assert clips.device_s is None
    assert clips.fingerprint == "f"
    assert clips.units == 2
    assert clips.failed_rows == 2


def test_pools_that_change_when_nodes_have_come_do_not_begin_the_run_anew() -> None:
    run = Run({"clips/a": TASKS, "features/b": PoolRecord(workers=1, gpus=1, holds=True)})
    run.unit("clips/a", 0, 100, 110)
    run.workload.hear(Started({"clips/a": TASKS, "features/b": ACTOR}), now_s=112.0)
    assert run.workload.wall_s(now_s=130.0) == 30.0
    assert run.workload.products(now_s=130.0)["clips/a"].busy_s == 10.0
    run.unit("features/b", 0, 112, 116)
    assert run.workload.products(now_s=130.0)["features/b"].pool == ACTOR


def test_cores_that_another_product_has_are_not_waited_in() -> None:
    run = Run({"clips/a": TASKS, "flow/f": TASKS})
    run.unit("clips/a", 0, 100, 110)
    run.unit("flow/f", 9, 100, 110)  # of an earlier run's clips
    run.unit("clips/a", 1, 110, 120)
    run.unit("flow/f", 0, 110, 120)
    made = run.workload.products(now_s=120.0)
    assert made["clips/a"].idle_s == made["flow/f"].idle_s == 0
    assert made["clips/a"].held_s == made["flow/f"].held_s == 20.0


def test_a_pool_of_n_waits_with_no_more_than_n() -> None:
    run = Run({"clips/a": PoolRecord(workers=1, cpus=1)})
    run.unit("clips/a", 0, 105, 110)
    assert run.workload.products(now_s=110.0)["clips/a"].idle_s == pytest.approx(5.0)


def test_cores_that_come_later_are_waited_in_from_then_on() -> None:
    run = Run()
    run.workload.capacity([node(2), node(2, gpus=1)], now_s=110.0)
    run.unit("clips/a", 0, 100, 120)
    assert run.workload.products(now_s=120.0)["clips/a"].idle_s == pytest.approx(10 + 30)
    assert run.workload.held_by_cluster(now_s=120.0) == pytest.approx((20 + 40, 10))


def test_units_under_way_count_until_now() -> None:
    run = Run()
    run.workload.hear(Began("clips/a", 0, "n"), now_s=101.0)
    made = run.workload.products(now_s=106.0)["clips/a"]
    assert (made.units, made.busy_s) == (0, 5.0)
    assert made.held_s == pytest.approx(12.0)


def test_a_unit_begun_twice_was_lost_once_and_one_given_up_is_no_loss() -> None:
    run = Run()
    run.workload.hear(Began("clips/a", 0, "n"), now_s=101.0)
    run.unit("clips/a", 0, 104, 110)
    run.workload.hear(Began("clips/a", 1, "n"), now_s=110.0)
    run.workload.hear(GaveUp("clips/a", 1), now_s=112.0)
    run.unit("clips/a", 1, 113, 114)
    made = run.workload.products(now_s=114.0)["clips/a"]
    assert (made.retries, made.given_up, made.units) == (1, 1, 2)
    assert made.busy_s == 6 + 2 + 1


def test_what_was_found_finished_cost_nothing() -> None:
    run = Run()
    run.workload.hear(Progress("clips/a", 0, 8, 0), now_s=101.0)
    assert run.workload.products(now_s=102.0) == {}


def test_reasons_and_sums_add_up() -> None:
    run = Run()
    run.unit("clips/a", 0, 100, 101, reasons={"truncated": 2}, bytes_out=5, frames_decoded=30, frames_used=3, cpu_s=1.5)
    run.unit("clips/a", 1, 101, 102, reasons={"truncated": 1, "missing": 1}, bytes_out=6, frames_decoded=6, cpu_s=0.5)
    made = run.workload.products(now_s=102.0)["clips/a"]
    assert made.reasons == {"truncated": 3, "missing": 1}
    assert (made.bytes_out, made.cpu_s, made.amplification) == (11, 2.0, 12.0)


def test_of_a_hundred_thousand_units_it_is_known_at_once() -> None:
    run = Run()
    for unit in range(100_000):
        run.unit("clips/a", unit, 100 + unit, 101 + unit)
    made = run.workload.products(now_s=100_100.0)["clips/a"]
    assert made.busy_s == 100_000
    assert made.idle_s == pytest.approx(100_000)


def test_what_nobody_ended_was_lost_when_all_is_over() -> None:
    run = Run()
    run.unit("clips/a", 0, 100, 110)
    run.workload.hear(Began("clips/a", 1, "n"), now_s=105.0)
    run.workload.end()
    made = run.workload.products(now_s=200.0)["clips/a"]
    assert (made.given_up, made.busy_s, made.wall_s) == (1, 10.0, 10.0)


def test_cores_where_its_workers_may_not_be_are_not_waited_in() -> None:
    run = Run({"clips/a": PoolRecord(cpus=1, labels={"role": "cpu"})})
    run.workload.capacity([node(3, role="cpu"), node(16, gpus=1, role="gpu")], now_s=100.0)
    run.unit("clips/a", 0, 100, 110)
    assert run.workload.products(now_s=110.0)["clips/a"].idle_s == pytest.approx(20.0)
