"""Records of runs on storage: kept up to date, whole at any moment, summed."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from pipeline import runs
from pipeline.store import Store
from schemas.work import ProductWork, RunRecord


def record(run: int = 1, state="done", **products: ProductWork) -> RunRecord:
    named = {path.replace("_", "/"): work for path, work in products.items()}
    return RunRecord(run=run, state=state, began="2026-01-01", wall_s=10.0, cores_s=40.0, products=named)


def test_a_record_comes_back_as_it_was(tmp_path) -> None:
    store = Store(str(tmp_path))
    written = record(clips_a=ProductWork(units=3, busy_s=1.5, reasons={"missing": 2}))
    runs.write(store, written)
    assert runs.load(store, 1) == written == runs.last(runs.records(store))
    assert json.loads((tmp_path / "_runs/run-000001.json").read_text())["products"]["clips/a"]["busy_s"] == 1.5


def test_a_dataset_without_runs(tmp_path) -> None:
    store = Store(str(tmp_path))
    assert runs.next_number(store) == 1
    assert runs.last(runs.records(store)) is None
    assert runs.spent(runs.records(store)).products == {}


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path) -> None:
    store = Store(str(tmp_path))
    runs.write(store, record(1))
    (tmp_path / "_runs/run-000002.json").write_text('{"run": 2, "sta')
    (tmp_path / "_runs/lease.json").write_text("{}")
    assert runs.last(runs.records(store)) == record(1)
    assert runs.next_number(store) == 3


def test_a_record_of_a_later_version_is_read(tmp_path) -> None:
    store = Store(str(tmp_path))
    document = {**record().model_dump(mode="json"), "of_a_later_version": 1}
    store.put(runs.path_of(1), json.dumps(document).encode())
    assert runs.last(runs.records(store)) == record()


def test_all_runs_are_summed_by_product(tmp_path) -> None:
    store = Store(str(tmp_path))
    old = ProductWork(fingerprint="old", units=1, busy_s=5.0, reading_s=1.0, reasons={"missing": 3})
    runs.write(store, record(1, "interrupted", clips_a=old))
    new = {
        "clips_a": ProductWork(fingerprint="new", units=2, busy_s=7.0, device_s=1.0, reasons={"missing": 1}),
        "flow_f": ProductWork(units=1),
    }
    runs.write(store, record(2, **new))
    found = runs.spent(runs.records(store))
    assert (found.runs, found.wall_s, found.cores_s) == (2, 20.0, 80.0)
    clips = found.products["clips/a"]
    assert (clips.units, clips.busy_s, clips.reading_s, clips.device_s) == (3, 12.0, 1.0, 1.0)
    assert clips.reasons == {"missing": 4}
    now = runs.spent(runs.records(store), {"clips/a": "new"}).products
    assert list(now) == ["clips/a"]
    assert now["clips/a"].units == 2


def test_a_run_is_recorded_while_it_goes_on_and_when_it_ends(tmp_path) -> None:
    store, twice, count = Store(str(tmp_path)), threading.Event(), 0

    def now(state) -> RunRecord:
        nonlocal count
        count += 1
        if count >= 3:
            twice.set()
        return record(7, state)

    with runs.recorded(store, now, every_s=0.01):
        assert runs.last(runs.records(store)).state == "running"  # at once
        assert twice.wait(60)
    assert runs.last(runs.records(store)) == record(7, "done")
    assert [path.name for path in (tmp_path / "_runs").iterdir()] == ["run-000007.json"]


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_the_record_says_how_it_ended(tmp_path, error, state) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(error), runs.recorded(store, lambda state: record(1, state)):
        raise error
    assert runs.last(runs.records(store)).state == state


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path) -> None:
    (tmp_path / "_runs").write_text("a file where a folder must go")
    with runs.recorded(Store(str(tmp_path)), lambda state: record(1, state)):
        pass


KILLED = """
import sys, time
from pipeline import runs
from pipeline.store import Store
from schemas.work import RunRecord
def record(state):
    return RunRecord(run=1, state=state, began="x" * 100000, wall_s=1.0)
with runs.recorded(Store(sys.argv[1]), record, every_s=0.0):
    print("on", flush=True)
    time.sleep(600)
"""


def test_kill_9_leaves_a_whole_record_of_a_run_that_did_not_end(tmp_path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == b"on\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    found = runs.last(runs.records(Store(str(tmp_path))))
    assert found is not None
    assert found.state == "running"
    assert len(found.began) == 100000


def with_fingerprint(run: int) -> RunRecord:
    """Runs 1, 2, 3 … of the settings a, a, b, b, a, a …, each with one unit."""
    fingerprint = "ab"[(run - 1) // 2 % 2]
    work = ProductWork(fingerprint=fingerprint, units=1, busy_s=1.0, wall_s=2.0, device_s=0.5, reasons={"missing": 1})
    return record(run, clips_a=work, flow_f=ProductWork(fingerprint="f", units=1))


def totals(store: Store) -> list[runs.Spent]:
    found = runs.records(store)
    return [runs.spent(found), *(runs.spent(found, {"clips/a": name}) for name in "ab")]


def test_earlier_runs_are_summed_up_and_totals_stay(tmp_path) -> None:
    store, plain = Store(str(tmp_path / "pruned")), Store(str(tmp_path / "plain"))
    for run in range(1, 12):
        for each in (store, plain):
            runs.write(each, with_fingerprint(run))
        if run >= 5:
            runs.prune(store, kept=3)
            assert runs.numbers(store) == [run - 2, run - 1, run]
            assert totals(store) == totals(plain)
    assert totals(store)[0].runs == 11
    assert runs.records(store)[-1] == with_fingerprint(11)
    assert len(runs.records(store)) == 2 + 3  # a sum for each of the settings


def test_a_kill_while_they_are_summed_up_counts_none_twice(tmp_path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    for run in range(1, 9):
        runs.write(store, with_fingerprint(run))
    before = totals(store)
    delete, deleted = Store.delete, []

    def killed(self: Store, relative: str) -> None:
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(relative)
        delete(self, relative)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "delete", killed)
        runs.prune(store, kept=3)
    assert len(runs.numbers(store)) == 6
    assert totals(store) == before
    runs.prune(store, kept=3)
    assert runs.numbers(store) == [6, 7, 8]
    assert totals(store) == before


def test_who_looks_while_they_are_summed_up_misses_none(tmp_path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    for run in range(1, 9):
        runs.write(store, with_fingerprint(run))
    before, load = totals(store), runs.load

    def load_late(store: Store, run: int) -> RunRecord | None:
        if run == 3:
            monkeypatch.undo()
            runs.prune(store, kept=3)
        return load(store, run)

    monkeypatch.setattr(runs, "load", load_late)
    assert totals(store) == before
    assert runs.numbers(store) == [6, 7, 8]


def test_numbers_go_on_after_the_sums(tmp_path) -> None:
    store = Store(str(tmp_path))
    for run in range(1, 6):
        runs.write(store, with_fingerprint(run))
    runs.prune(store, kept=1)
    store.delete(runs.path_of(5))
    assert runs.next_number(store) == 5
    (tmp_path / "_runs/earlier.json").write_text("[{")
    assert runs.records(store) == []
    assert runs.next_number(store) == 1


def test_a_run_that_ends_leaves_the_last_hundred(tmp_path) -> None:
    store = Store(str(tmp_path))
    for run in range(1, runs.KEPT + 3):
        runs.write(store, record(run))
    with runs.recorded(store, lambda state: record(runs.KEPT + 3, state)):
        pass
    assert runs.numbers(store) == list(range(4, runs.KEPT + 4))
    assert runs.spent(runs.records(store)).runs == runs.KEPT + 3
