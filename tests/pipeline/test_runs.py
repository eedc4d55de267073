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
    assert runs.load(store, 1) == written == runs.last(store)
    assert json.loads((tmp_path / "_runs/run-000001.json").read_text())["products"]["clips/a"]["busy_s"] == 1.5


def test_a_dataset_without_runs(tmp_path) -> None:
    store = Store(str(tmp_path))
    assert runs.next_number(store) == 1
    assert runs.last(store) is None
    assert runs.spent(runs.records(store)).products == {}


def test_what_cannot_be_read_is_as_if_it_were_not_there(tmp_path) -> None:
    store = Store(str(tmp_path))
    runs.write(store, record(1))
    (tmp_path / "_runs/run-000002.json").write_text('{"run": 2, "sta')
    (tmp_path / "_runs/lease.json").write_text("{}")
    assert runs.last(store) == record(1)
    assert runs.next_number(store) == 3


def test_a_record_of_a_later_version_is_read(tmp_path) -> None:
    store = Store(str(tmp_path))
    document = {**record().model_dump(mode="json"), "of_a_later_version": 1}
    store.put(runs.path_of(1), json.dumps(document).encode())
    assert runs.last(store) == record()


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
        assert runs.last(store).state == "running"  # at once
        assert twice.wait(60)
    assert runs.last(store) == record(7, "done")
    assert [path.name for path in (tmp_path / "_runs").iterdir()] == ["run-000007.json"]


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_the_record_says_how_it_ended(tmp_path, error, state) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(error), runs.recorded(store, lambda state: record(1, state)):
        raise error
    assert runs.last(store).state == state


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
    found = runs.last(Store(str(tmp_path)))
    assert found is not None
    assert found.state == "running"
    assert len(found.began) == 100000
